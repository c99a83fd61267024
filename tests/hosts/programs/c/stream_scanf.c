// forks: 7
// Functions of libc that read standard input at points that only they know, in a child on another host:
// formatted and wide input, and those that fill a buffer more than once.
#define _GNU_SOURCE
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <wchar.h>

#include "pieces.h"

static int VScanf(const char* format, ...) {
  va_list list;
  va_start(list, format);
  const int got = vscanf(format, list);
  va_end(list);
  return got;
}

static void Scan(void) {
  int number = 0, other = 0;
  char word[100] = "";
  double real = 0;
  printf("scanf %d", scanf("%d", &number));
  printf(" %d\n", number);
  printf("fscanf %d", fscanf(stdin, "%99s %lf", word, &real));
  printf(" %s %g\n", word, real);
  printf("vscanf %d", VScanf(" key = %d ; %x", &number, &other));
  printf(" %d %x\n", number, other);
  printf("set %d", scanf(" %99[^]\n]", word));
  printf(" %s\n", word);
  char* allocated = NULL;
  printf("allocated %d", scanf("] %ms", &allocated));
  printf(" %s\n", allocated);
  free(allocated);
  printf("mismatch %d\n", scanf("%d", &number));
  printf("then %c", getchar());
  printf(" %d", scanf("%d", &number));
  printf(" end %d", scanf(" %d", &number));
  printf(" eof %d error %d\n", feof(stdin) != 0, ferror(stdin) != 0);
}

static void Wide(void) {
  wchar_t text[100] = L"", line[100] = L"";
  printf("fgetwc %lc\n", fgetwc(stdin));
  ungetwc(L'z', stdin);
  const wint_t pushed = getwchar(), next = getwc_unlocked(stdin);
  printf("getwchar %lc %lc\n", pushed, next);
  const int got = wscanf(L"%99ls", text);
  printf("wscanf %d %ls\n", got, text);
  fgetws(line, 100, stdin);
  fgetws(line, 100, stdin);
  printf("fgetws %ls", line);
  int number = 0;
  const int two = fwscanf(stdin, L"%d %99ls", &number, text);
  printf("fwscanf %d %d %ls\n", two, number, text);
  printf("newline %d", getwchar() == L'\n');
  printf(" end %d\n", getwchar() == WEOF);
}

static void Words(void) {
  const int first = getw(stdin), second = getw(stdin);
  printf("getw %x %x", first, second);
  printf(" eof %d\n", getw(stdin) == EOF && feof(stdin));
}

static void Unbuffered(void) {
  setvbuf(stdin, NULL, _IONBF, 0);
  int a = 0, b = 0;
  char rest[20] = "";
  printf("unbuffered %d", scanf("%d,%d", &a, &b));
  printf(" %d %d\n", a, b);
  // One byte behind the number was taken and put back; what follows is still in the pipe for others.
  printf("pushed back %d\n", getchar());
  const ssize_t size = read(0, rest, sizeof rest - 1);
  printf("rest %.*s", (int)size, rest);
}

static void Locked(void) {
  flockfile(stdin);
  printf("unlocked %c%c", getc_unlocked(stdin), getchar_unlocked());
  char line[30];
  fgets_unlocked(line, sizeof line, stdin);
  printf(" %s", line);
  char block[8] = "";
  const size_t got = fread_unlocked(block, 1, 7, stdin);
  printf("block %zu %s\n", got, block);
  funlockfile(stdin);
}

// The stream has bytes in its buffer already when the child is made.
static void Buffered(void) {
  int number = 0;
  printf("first %d", scanf("%d", &number));
  printf(" %d\n", number);
}

static void Descriptor(void) {
  // Another FILE of the same descriptor, with its own buffer and orientation.
  FILE* again = fdopen(dup(0), "r");
  char small[4];
  setvbuf(again, small, _IOFBF, sizeof small);
  char word[40] = "";
  printf("fdopen %d", fscanf(again, "%39s", word));
  printf(" %s\n", word);
  char* line = NULL;
  size_t room = 0;
  printf("getdelim %zd", getdelim(&line, &room, ';', again));
  printf(" %s\n", line);
  printf("getline %zd", getline(&line, &room, again));
  printf(" %s", line);
  free(line);
  fclose(again);
}

int main(void) {
  setlocale(LC_ALL, "C.UTF-8");
  const char* const numbers[] = {"12",   "34",    "\nwo", "rd", " 2.", "5e",  "1 ke", "y =", " -7 ",
                                 "; be", "ef [a", "b c",  "d]", "ef",  "gh ", "x1",   " \n", NULL};
  printf("status %d\n", Feed(Scan, numbers));
  const char* const wide[] = {"\xc3",       "\xa9",          "ab",  " \xe2\x82", "\xac",  "uro\n",
                              "a \xf0\x9f", "\x98\x80 line", "\n4", "2 n",       "ext\n", NULL};
  printf("status %d\n", Feed(Wide, wide));
  const char* const words[] = {"ab", "cd", "e", "fgh", NULL};
  printf("status %d\n", Feed(Words, words));
  const char* const pair[] = {"1", "2", ",3", "4", ";", "left over\n", NULL};
  printf("status %d\n", Feed(Unbuffered, pair));
  const char* const locked[] = {"u", "v", "li", "ne\n", "blo", "ckes", "rest", NULL};
  printf("status %d\n", Feed(Locked, locked));
  const char* const lone[] = {"7", "7", NULL};
  printf("status %d\n", Feed(Buffered, lone));
  const char* const again[] = {"lon", "gword", " deli", "mited;", "li", "ne\n", NULL};
  printf("status %d\n", Feed(Descriptor, again));
  return 0;
}
