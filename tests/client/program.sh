#!/bin/sh
# The App of the command's tests: {"do": "write"|"fail"|"sleep", "word": TEXT, "seconds": N}
arguments=$(cat)
value() { printf '%s' "$arguments" | sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p"; }
echo "begin $(value do)" >&2
case $(value do) in
write)
    echo '{"progress": 0.5, "message": "half"}' >&2
    mkdir -p /grid/sub
    printf '%s' "$(value word)" > /grid/word.txt
    seq 300000 > /grid/sub/numbers.txt
    ;;
odd)
    printf 1 > "/grid/$(printf 'Geb\344ude.gpkg')"
    printf 2 > /grid/dtm.txt
    ln -s dtm.txt /grid/latest.txt
    ;;
fail)
    printf '\033[2J\033]0;mine\007hidden\033[8m\n' >&2
    echo "kept" > /grid/partial.txt
    exit 3
    ;;
sleep)
    echo '{"progress": 0.1, "message": "asleep"}' >&2
    for n in $(seq "$(value seconds)"); do
        echo "second $n" >&2
        sleep 1
    done
    ;;
esac
echo "end" >&2
