# Programs that lie in the directory: scripts, a binary, a library of Python.
printf '#!/bin/sh\necho script $0 "$@"\n' > s.sh; chmod +x s.sh; ./s.sh a b; sh s.sh c; . ./s.sh; "$PWD/s.sh" d
printf '#!/usr/bin/python3\nimport sys, mod\nprint(sys.argv, mod.name)\n' > p.py; chmod +x p.py; echo 'name = "module"' > mod.py; PYTHONDONTWRITEBYTECODE=1 ./p.py x
cp /bin/echo e; ./e binary; ./nothing; chmod -x e; ./e; echo $?
printf '#!/bin/sh\nexit 3\n' > x; chmod +x x; ./x; echo $?; PATH=$PWD:$PATH; s.sh path; rm x; x
