# git init, add, commit, branch, clone.
command -v git > /dev/null || exit 77
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q -b main r && cd r && seq 100 > n && mkdir d && echo x > d/x && git add . && git commit -qm one && git log --format='%H %s'
echo y >> n && git diff --stat && git commit -qam two && git checkout -qb other HEAD~1 && cat n | tail -1 && git checkout -q main && tail -1 n
git status --short; cd .. && git clone -q r c && cd c && git log --oneline && git fsck 2>&1 | grep -v dangling; cd .. && rm -rf r c
