#!/bin/sh
#
# check_symbols.sh
#	What the extension's library exports: the server's entry points, the SQL functions
#	and the background workers' main functions, nothing of the engine or the kernels.
#
#	usage: test/check_symbols.sh [distil.so]      (after make)
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

passed=0
failed=0
for symbol in $symbols; do
	case $symbol in
		Pg_magic_func | _PG_init | pg_finfo_distil_*)
			allowed=true ;;
		distil_*_main)			# entry point of a background worker
			allowed=true ;;
		distil_*)
			case "
$symbols
" in
				*"
pg_finfo_$symbol
"*)	allowed=true ;;
				*)	allowed=false ;;
			esac ;;
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

# Without these it is no extension, and the check looked at the wrong file.
for symbol in Pg_magic_func; do
	if ! echo "$symbols" | grep -qx "$symbol"; then
		echo "$library: $symbol: missing"
		failed=$((failed + 1))
	fi
done

echo "symbols: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
