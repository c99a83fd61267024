# forks: 6
# Subshells in the background, wait with statuses, variables that do not leak, redirections.
value=outer
( value=inner; echo "subshell $value"; exit 3 )
echo "status $? $value"
for number in 1 2 3; do
  ( sum=0; for (( i = 0; i < 1000 * number; ++i )); do (( sum += i )); done; exit $(( sum % 200 )) ) &
  pids[number]=$!
done
for number in 1 2 3; do
  wait "${pids[number]}"
  echo "child $number ended with $?"
done
( echo to stderr >&2; echo to stdout )
( kill -TERM "$BASHPID" )
echo "killed $?"
