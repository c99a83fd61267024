# forks: 18
# A process with more stretches of memory than the kernel lists at once; sockets that do not block; threads.
require 'socket'
$stdout.sync = true
reader, writer = IO.pipe
pid = fork { reader.close; writer.puts 'hi'; writer.write 'x' * 200_000; exit! 3 }
writer.close
puts reader.gets, reader.read.size
Process.wait pid
p $?.exitstatus
p Array.new(5) { |i| fork { exit i } }.map { |child| Process.wait2(child)[1].exitstatus }

ready, say = IO.pipe
waiting = fork { trap(:TERM) { exit 42 }; say.puts 'ready'; sleep }
puts ready.gets
Process.kill :TERM, waiting
Process.wait waiting
p $?.exitstatus

p `echo hello; exit 5`, $?.exitstatus
IO.popen('-') { |io| io ? p(io.read) : puts('child') }
Process.wait Thread.new { fork { exit 7 } }.value
p $?.exitstatus
Process.wait fork { abort }
p $?.exitstatus
Process.wait fork { Process.kill :KILL, $$ }
p $?.termsig

# Both directions of a socket end while the child waits for more.
5.times do |round|
  ours, theirs = UNIXSocket.pair
  child = fork { ours.close; while (line = theirs.gets) do theirs.puts line.reverse.strip end }
  theirs.close
  %w[abc def].each { |word| ours.puts word; puts ours.gets }
  ours.close
  Process.wait child
  p [round, $?.success?]
end
at_exit { puts "end #{$?.inspect.empty?}" }
p Process.detach(fork { exit! 6 }).value.exitstatus
