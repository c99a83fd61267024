# forks: 6
# fork, pipe, wait, $?, kill and a pool of children in perl.
use strict;
use warnings;
$| = 1;

pipe(my $reader, my $writer) or die;
my @children;
for my $number (1 .. 4) {
  my $pid = fork() // die;
  if ($pid == 0) {
    close $reader;
    my $sum = 0;
    $sum += $_ for 1 .. 1000 * $number;
    print {$writer} "$number $sum\n";
    close $writer;
    exit $number;
  }
  push @children, $pid;
}
close $writer;
print sort <$reader>;
for my $pid (@children) {
  print waitpid($pid, 0) == $pid ? "waited " : "lost ", $? >> 8, "\n";
}

my $pid = fork() // die;
if ($pid == 0) { kill 'TERM', $$; sleep 100 }
waitpid $pid, 0;
print "signal ", $? & 127, "\n";

my $kid = open(my $from, '-|') // die;
if ($kid == 0) { print "line $_\n" for 1 .. 1000; exit 3 }
my $lines = () = <$from>;
close $from;
print "$lines lines, status ", $? >> 8, "\n";
