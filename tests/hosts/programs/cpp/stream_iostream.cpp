// forks: 3
// C++ streams in a child on another host, whose input arrives in pieces: over stdio, by themselves, and by
// name.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

extern "C" {
#include "../c/pieces.h"
}

namespace {

void Read(std::istream& in) {
  int number = 0;
  double real = 0;
  std::string word, line;
  in >> number >> word >> real;
  std::printf("%d %s %g\n", number, word.c_str(), real);
  std::getline(in, line);
  while (std::getline(in, line)) std::printf("line %s\n", line.c_str());
  std::printf("eof %d\n", static_cast<int>(in.eof()));
}

void Standard() {
  Read(std::cin);
}
void Unsynchronised() {
  std::ios::sync_with_stdio(false);
  Read(std::cin);
}
void ByName() {
  std::ifstream in("/dev/stdin");
  Read(in);
}

}  // namespace

int main() {
  const char* const pieces[] = {"1",     "2 wo", "rd 0.", "5\nfirst", " line\nsec",
                                "ond\n", "thi",  "rd",    nullptr};
  std::printf("status %d\n", Feed(Standard, pieces));
  std::printf("status %d\n", Feed(Unsynchronised, pieces));
  std::printf("status %d\n", Feed(ByName, pieces));
  return 0;
}
