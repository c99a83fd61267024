#include <stdlib.h>

extern long EarlyMallocReads(void);

int main(void) {
  void* volatile block = malloc(1);
  free(block);
  return EarlyMallocReads() > 0 ? 0 : 91;
}
