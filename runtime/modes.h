// The modes of the one binary, elsewhere-runtime. Each gets the arguments behind its name and answers the
// exit status.
#pragma once

namespace elsewhere::runtime {

int LaunchMain(int argc, char** argv);  // runtime/launch*.cpp
int AgentMain(int argc, char** argv);   // runtime/agent_main.cpp
int WorkerMain(int argc, char** argv);  // runtime/worker_main.cpp

}  // namespace elsewhere::runtime
