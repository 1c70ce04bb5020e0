#!/bin/sh
#
# check_symbols.sh
#	What the extension's library exports: the server's entry points, the SQL functions
#	and the background workers' main functions, nothing of the engine or the kernels; and that it has no
#	thread-local storage.
#
#	usage: test/check_symbols.sh [distil.so]      (after make)
#
# Servers before 16 do not build modules with hidden visibility: there the glue's own
# functions (src/pg/*.o beside the library) are visible too, and only counted.
#
# A distil_* function is an SQL function when pg_finfo_<its name> is exported too.
# Prints each offending symbol and one line "symbols: N passed, N failed".

LC_ALL=C
export LC_ALL
library=${1:-$(dirname "$0")/../distil.so}

if [ ! -f "$library" ]; then
	echo "symbols: $library is not there: run make first"
	exit 1
fi
symbols=$(nm -D --defined-only "$library" | awk '{print $NF}' | sed 's/@.*//' | sort -u) || exit 1

major=$("${PG_CONFIG:-pg_config}" --version 2>/dev/null | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
glue=
if [ "${major:-99}" -lt 16 ]; then
	glue=$(nm -g --defined-only "$(dirname "$library")"/src/pg/*.o 2>/dev/null | awk 'NF == 3 {print $3}' | sort -u)
fi

# contains LIST NAME
contains()
{
	case "
$1
" in
		*"
$2
"*)	return 0 ;;
	esac
	return 1
}

passed=0
failed=0
visible=0
for symbol in $symbols; do
	case $symbol in
		Pg_magic_func | _PG_init | pg_finfo_distil_*)
			allowed=true ;;
		distil_*_main)			# entry point of a background worker
			allowed=true ;;
		distil_*)
			allowed=true
			if ! contains "$symbols" "pg_finfo_$symbol"; then
				if contains "$glue" "$symbol"; then
					visible=$((visible + 1))
					continue
				fi
				allowed=false
			fi ;;
		*)
			allowed=false ;;
	esac
	if $allowed; then
		passed=$((passed + 1))
	else
		echo "$library: $symbol: neither an SQL function nor an entry point of the server"
		failed=$((failed + 1))
	fi
done

if [ "$visible" -gt 0 ]; then
	echo "symbols: $visible functions of src/pg are visible, as always before server 16"
fi

# The C library gets a library's thread-local storage when a thread first uses it, and ends the process where it cannot.
if readelf -lW "$library" | grep -qw TLS; then
	echo "$library: thread-local storage"
	failed=$((failed + 1))
else
	passed=$((passed + 1))
fi

# Without these it is no extension, and the check looked at the wrong file.
for symbol in Pg_magic_func; do
	if ! echo "$symbols" | grep -qx "$symbol"; then
		echo "$library: $symbol: missing"
		failed=$((failed + 1))
	fi
done

echo "symbols: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
