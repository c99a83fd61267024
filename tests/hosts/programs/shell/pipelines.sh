# forks: any
# Pipelines, command substitution, here documents, while-read loops, background jobs and traps.
printf '%s\n' pear apple fig apple | sort | uniq -c | while read -r count fruit; do echo "$fruit=$count"; done
words=$(seq 1 1000 | awk '{ sum += $1 } END { print sum }')
echo "sum $words"
seq 1 5 | while read -r line; do echo "line $line"; true </dev/null; done
cat <<END | tr a-z A-Z
here document
END
yes | head -n 3
{ echo one; echo two; } | ( read -r first; echo "first $first"; cat )
diff <(seq 1 3) <(seq 2 4)
echo "diff $?"
false | true; echo "${PIPESTATUS[*]}"
( trap 'echo trapped; exit 9' TERM; echo ready; kill -TERM "$BASHPID"; while :; do :; done )
echo "trap $?"
seq 1 20000 | ( sleep_free=0; while read -r number; do (( sleep_free += number )); done; echo "$sleep_free" )
