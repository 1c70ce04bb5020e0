#!/bin/sh
#
# check_layers.sh
#	The include rules of the tree, as a test: which layer may know which header; and the width of lines.
#
#	usage: test/check_layers.sh [ROOT]
#
# Prints each offending line and, at the end, one line "layers: N passed, N failed";
# exit status 1 when anything failed.  Needs no build.
#
#	kernels/*       the C library, kernels.h, backends.h and files of the same folder
#	src/engine/*    the C library, kernels.h and files of src/engine
#	src/pg/*        of engine and kernels only distil_engine.h
#	<jansson.h> only in json.c, no ICU (unicode.c says why), CBLAS only in blas_cpu.c, CUDA
#	only in kernels/cuda, PG_VERSION_NUM only in compat.h, every source file name once.
#	C, CUDA and headers, tests too: no line wider than 110 columns, a tab to the next fourth.

LC_ALL=C
export LC_ALL
cd "${1:-$(dirname "$0")/..}" || exit 1

passed=0
failed=0

# fail FILE:LINE TEXT REASON
fail()
{
	echo "$1: $2: $3"
	failed=$((failed + 1))
}

# Headers of the C library, POSIX, Linux and the compiler.
is_libc()
{
	case $1 in
		assert.h | ctype.h | errno.h | fenv.h | float.h | inttypes.h | limits.h | locale.h | math.h | \
		setjmp.h | signal.h | stdalign.h | stdarg.h | stdatomic.h | stdbool.h | stddef.h | stdint.h | \
		stdio.h | stdlib.h | string.h | strings.h | time.h | wchar.h | \
		dirent.h | dlfcn.h | fcntl.h | pthread.h | sched.h | unistd.h | sys/*.h | \
		cpuid.h | *intrin.h | arm_neon.h | arm_sve.h)
			return 0 ;;
	esac
	return 1
}

# third_party FILE HEADER: an outside library whose one file this is
third_party()
{
	case $1:$2 in
		src/engine/json.c:jansson.h) return 0 ;;
		kernels/cuda/*:cu*.h | kernels/cuda/*:nccl.h) return 0 ;;
	esac
	return 1
}

# check_include FILE LINE KIND HEADER; KIND is < or "
check_include()
{
	where=$1:$2
	folder=$(dirname "$1")
	text="#include $4"
	reason=
	case $1 in
		kernels/* | src/engine/*)
			if [ "$3" = '<' ]; then
				is_libc "$4" || third_party "$1" "$4" || reason="not a header of the C library"
			elif [ "$4" != kernels.h ] && [ ! -f "$folder/$4" ]; then
				reason="neither kernels.h nor a file of $folder"
			else
				case $folder/$4 in
					kernels/*/../backends.h) ;;
					*/../*) reason="outside of $folder" ;;
				esac
			fi ;;
		src/pg/*)
			case $4 in
				jansson.h | unicode/*.h | cblas.h | cu*.h) reason="belongs to a lower layer" ;;
				distil_engine.h) ;;
				*)
					if [ -f "src/engine/$4" ] || [ -f "kernels/$4" ] || [ -f "src/$4" ] || [ -f "$4" ]; then
						reason="of the engine and the kernels only distil_engine.h"
					fi
					case $4 in
						../*) reason="outside of $folder" ;;
					esac ;;
			esac ;;
	esac
	if [ -n "$reason" ]; then
		fail "$where" "$text" "$reason"
	else
		passed=$((passed + 1))
	fi
}

files=$(find kernels src -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort)
[ -n "$files" ] || { echo "layers: no source files here"; exit 1; }

includes=$(mktemp) || exit 1
trap 'rm -f "$includes"' EXIT
# FILE LINE KIND HEADER
for file in $files; do
	sed -n 's/^[ 	]*#[ 	]*include[ 	]*\([<"]\)\([^>"]*\)[>"].*/\1 \2/;t found
		b
		:found
		=
		p' "$file" | paste -d ' ' - - | sed "s|^|$file |"
done > "$includes"
while read -r file line kind header; do
	check_include "$file" "$line" "$kind" "$header"
done < "$includes"

# only_in PATTERN ALLOWED_FILE REASON: no other file may hold the pattern
only_in()
{
	for file in $files; do
		[ "$file" = "$2" ] && continue
		found=$(grep -nE "$1" "$file" | head -n 1)
		if [ -n "$found" ]; then
			fail "$file:${found%%:*}" "${found#*:}" "$3"
		else
			passed=$((passed + 1))
		fi
	done
}

only_in 'cblas|openblas_' kernels/cpu/blas_cpu.c "only blas_cpu.c knows OpenBLAS"
only_in 'PG_VERSION_NUM' src/pg/compat.h "only compat.h tests the server's version"

# A name that occurs twice cannot be found by name.
repeated=$(find kernels src test -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' -o -name '*.pl' |
	sed 's|.*/||' | sort | uniq -d)
if [ -n "$repeated" ]; then
	for name in $repeated; do
		fail "$(find kernels src test -name "$name" | tr '\n' ' ')" "$name" "file name used twice"
	done
else
	passed=$((passed + 1))
fi

# wide: the lines of stdin that are wider than max_line_length of .editorconfig, with their numbers; the
# bytes behind the first of a character count nothing
wide()
{
	tr -d '\200-\277' | expand -t 4 | grep -nE '^.{111}'
}

# a rule that finds nothing has to be known to find something
if [ "$(printf '%0110d\n\t%0106d\n\t%0107d\n' 0 0 0 | wide | cut -d: -f1)" = 3 ]; then
	passed=$((passed + 1))
else
	fail "$0" 'wide' "does not find the one line of 111 columns"
fi
for file in $(find kernels src test -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort); do
	found=$(wide < "$file" | head -n 1)
	if [ -n "$found" ]; then
		fail "$file:${found%%:*}" "$(echo "${found#*:}" | sed 's/^ *//' | cut -c 1-60) ..." "wider than 110 columns"
	else
		passed=$((passed + 1))
	fi
done

echo "layers: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
