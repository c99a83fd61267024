// What both sides of the comparison end in: a function that does nothing, in a library of its own.
extern "C" __attribute__((visibility("default"))) long NoOperation(long, void*, long size) {
  return size;
}
