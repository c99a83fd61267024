# forks: any
# A here document that does not fit into a pipe is a file without a name, which a shell and its subshells read in turns.
{
  read -r first; echo "parent $first"
  (read -r line; echo "child $line")
  read -r line; echo "parent $line"
  (read -r line; echo "child $line"; (read -r line; echo "grandchild $line"); read -r line; echo "child $line")
  read -r line; echo "parent $line"
  head -n 1 >/dev/null; tail -n 1
} <<END
$(seq 1 30000)
END
