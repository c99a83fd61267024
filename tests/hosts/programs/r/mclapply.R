# forks: 13 (five by the shell script that starts R)
# parallel::mclapply with and without prescheduling, and pvec.
library(parallel)
print(unlist(mclapply(1:12, function(i) i^2, mc.cores = 2)))
print(unlist(mclapply(1:4, function(i) sum(seq_len(i * 1000)), mc.cores = 2, mc.preschedule = FALSE)))
print(sum(pvec(1:1000, sqrt, mc.cores = 2)))
