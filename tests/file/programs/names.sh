# Directories, names and attributes, by coreutils and findutils.
mkdir -p a/b/c && pwd && echo one > a/one && echo two > a/b/two && touch -d '2020-02-02 02:02:02 UTC' a/one
stat -c '%n %F %a' a a/b; stat -c '%n %F %a %s %Y' a/one
ls a; ls -p a; (cd a/b && pwd && ls .. && cat ../one ./two && cd .. && pwd -P)
mv a/one a/uno; ls a; mv a/b a/bee; find a | sort; cat a/bee/two
mv a z && cat z/bee/two && ls -d a
ln -s uno z/link; ln -s bee z/dirlink; readlink z/link; cat z/link z/dirlink/two; ls z/dirlink; readlink -f z/dirlink/two
ln -s ../../nowhere z/broken; cat z/broken; test -L z/broken && echo broken link; ls -d z/*
chmod 600 z/uno; stat -c %a z/uno; chmod u+x z/uno; stat -c '%A' z/uno
rmdir z; rmdir z/bee/c z/bee; rm z/bee/two; rmdir z/bee; mkdir z; mkdir -m 700 z/p; stat -c %a z/p
cat nothing; cat z; echo x > z; ls nothing/here; cat z/uno/x
cp z/uno copy; cp -r z zz; diff -r z zz && echo same; rm -r zz; ls
test -e copy && test -r copy && test -w copy && test ! -x copy && echo tests
for f in *; do echo "glob $f"; done; echo */*; shopt -s globstar; echo **
mktemp -p . tmp.XXXXXX | tr -c '\n' . ; rm -f ./tmp.*; truncate -s 100 z/hole; stat -c %s z/hole; wc -c < z/hole
ls ../data | sort | head -3; cd ..; basename "$PWD" | cut -c 1-10; cd data; ls -l --time-style=+ z/link | cut -c 1-10
