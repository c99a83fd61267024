#!/usr/bin/perl
# forks: 3
# Perl's own message queues, semaphores and shared memory, between a parent and children elsewhere.
use strict;
use warnings;
use IPC::SysV qw(IPC_PRIVATE IPC_RMID IPC_CREAT IPC_STAT SETALL GETVAL SEM_UNDO);
$| = 1;

my $queue   = msgget(IPC_PRIVATE, IPC_CREAT | 0600) // die "msgget: $!";
my $set     = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600) // die "semget: $!";
my $segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600) // die "shmget: $!";
semctl($set, 0, SETALL, pack("s!2", 1, 0)) or die "semctl: $!";
shmwrite($segment, sprintf("%08d", 0), 0, 8) or die "shmwrite: $!";

# A counter in the segment, under the first semaphore; what each child did, as a message.
for my $child (1 .. 3) {
  my $pid = fork() // die "fork: $!";
  next if $pid;
  for my $turn (1 .. 20) {
    semop($set, pack("s!3", 0, -1, SEM_UNDO)) or die "semop: $!";
    my $text;
    shmread($segment, $text, 0, 8) or die "shmread: $!";
    shmwrite($segment, sprintf("%08d", $text + $child), 0, 8) or die "shmwrite: $!";
    semop($set, pack("s!3", 0, 1, SEM_UNDO)) or die "semop: $!";
  }
  msgsnd($queue, pack("l! a*", $child, "child $child is done"), 0) or die "msgsnd: $!";
  exit 0;
}
for my $child (reverse 1 .. 3) {
  my $message;
  msgrcv($queue, $message, 100, $child, 0) or die "msgrcv: $!";
  print unpack("x[l!] a*", $message), "\n";
}
wait for 1 .. 3;
my $sum;
shmread($segment, $sum, 0, 8) or die "shmread: $!";
print "sum $sum\n";
msgctl($queue, IPC_RMID, 0);
semctl($set, 0, IPC_RMID, 0);
shmctl($segment, IPC_RMID, 0);
