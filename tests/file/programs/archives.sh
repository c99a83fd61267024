# tar out and in, a C program built and run, make.
mkdir src; for i in $(seq 30); do echo "int f$i(void) { return $i; }" > src/f$i.c; done
printf 'int f30(void);\n#include <stdio.h>\nint main(void) { printf("%%d\\n", f30()); return 0; }\n' > src/main.c
tar cf t.tar src; tar tf t.tar | sort | head -3; mkdir in; tar xf t.tar -C in; diff -r src in/src && echo same; rm -r in t.tar
printf 'all: prog\nprog: main.o f30.o\n\tcc -o $@ $^\n%%.o: %%.c\n\tcc -c -o $@ $<\n' > src/Makefile
make -s -C src && cp src/prog /tmp/elsewhere-prog.$$ && /tmp/elsewhere-prog.$$; rm -f /tmp/elsewhere-prog.$$; ls src | grep -c '\.o$'; make -C src
rm src/prog src/*.o
