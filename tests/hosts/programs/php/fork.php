<?php
// forks: 11
// Extensions that PHP loads with RTLD_DEEPBIND: posix and pcntl must speak of the session's pids, signals arrive.
$socket = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
$children = [];
for ($i = 1; $i <= 4; $i++) {
    if (($pid = pcntl_fork()) == 0) exit($i);
    $children[] = $pid;
}
foreach ($children as $pid) {
    pcntl_waitpid($pid, $status);
    echo pcntl_wexitstatus($status), "\n";
}
if (pcntl_fork() == 0) {
    fclose($socket[0]);
    fwrite($socket[1], json_encode(range(1, 10000)) . "\n");
    exit(0);
}
fclose($socket[1]);
echo count(json_decode(fgets($socket[0]))), "\n";
var_dump(fgets($socket[0]));
pcntl_wait($status);

pcntl_async_signals(true);
$got = 0;
pcntl_signal(SIGUSR1, function () use (&$got) { $got++; });
$me = posix_getpid();
if (pcntl_fork() == 0) {
    posix_kill(posix_getppid(), SIGUSR1);
    exit(posix_getppid() == $me && posix_getpid() == getmypid() ? 0 : 1);
}
pcntl_wait($status);
while ($got == 0) usleep(1000);
echo "signals $got, status ", pcntl_wexitstatus($status), "\n";

if (pcntl_fork() == 0) pcntl_exec('/bin/echo', ['executed']);
pcntl_wait($status);
if (pcntl_fork() == 0) posix_kill(posix_getpid(), SIGKILL);
pcntl_wait($status);
var_dump(pcntl_wifsignaled($status), pcntl_wtermsig($status));
if (pcntl_fork() == 0) {
    $process = proc_open('tr a-z A-Z', [['pipe', 'r'], ['pipe', 'w']], $pipes);
    fwrite($pipes[0], "from a remote child's child\n");
    fclose($pipes[0]);
    echo stream_get_contents($pipes[1]);
    exit(proc_close($process));
}
pcntl_wait($status);
echo pcntl_wexitstatus($status), "\n";
