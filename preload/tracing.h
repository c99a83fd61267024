// Tracing (ptrace) needs tracer and traced process on one host, and cannot be moved.
#pragma once

namespace elsewhere::preload {

// Before a fork: is this a program that traces, such as strace? It does not say which of its children.
void NoteTracer();
// In a child that might leave: why it must not; nullptr: nothing of this kind stands against it.
const char* ReasonOfTracing();

}  // namespace elsewhere::preload
