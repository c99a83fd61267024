# Pipelines whose pipes become a worker's own while they are in use, one after the other.
# Usage: pipelines_job.sh PIPELINES
set -o pipefail
sum=0
for (( round = 0; round < $1; ++round )); do
  last=$(seq 1 4000 | tr 0-8 1-9 | while read -r line; do echo "$line"; done | tail -n 1) || exit 1
  (( sum += last ))
done
echo "$sum"
