# forks: 4
"""multiprocessing.Pipe in both directions, large objects, end of file, poll; os.pipe with select and O_NONBLOCK."""
import multiprocessing
import os
import select

mp = multiprocessing.get_context("fork")


def echo(connection):
    while True:
        try:
            item = connection.recv()
        except EOFError:
            break
        connection.send(item)
    connection.close()


def produce(connection, sizes):
    for size in sizes:
        connection.send_bytes(bytes(size))
    connection.close()


def main():
    for duplex in (True, False):
        if duplex:
            mine, theirs = mp.Pipe()
            child = mp.Process(target=echo_and_close, args=(mine, theirs))
            child.start()
            theirs.close()
            for item in (1, "two", [3] * 1000, b"x" * 3_000_000):
                mine.send(item)
                print(mine.recv() == item, end=" ")
            print(mine.poll())
            mine.close()
            child.join()
            print(child.exitcode)
        else:
            reader, writer = mp.Pipe(duplex=False)
            child = mp.Process(target=produce, args=(writer, [0, 1, 70_000, 2_000_000]))
            child.start()
            writer.close()
            print([len(reader.recv_bytes()) for _ in range(4)])
            try:
                reader.recv_bytes()
            except EOFError:
                print("end of file")
            child.join()

    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.write(write, b"one")
        os._exit(0)
    os.close(write)
    print(select.select([read], [], [], 30)[0] == [read], os.read(read, 100), os.read(read, 100))
    os.waitpid(pid, 0)

    read, write = os.pipe()
    back_read, back_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.set_blocking(read, False)
        try:
            os.read(read, 1)
            os._exit(1)
        except BlockingIOError:
            os.write(back_write, b"empty")
        poller = select.epoll()
        poller.register(read, select.EPOLLIN)
        print("events", len(poller.poll(30)), os.read(read, 10), flush=True)
        os._exit(0)
    os.close(read)
    print(os.read(back_read, 5), flush=True)
    os.write(write, b"data")
    print(os.waitpid(pid, 0)[1])


def echo_and_close(mine, theirs):
    mine.close()
    echo(theirs)


if __name__ == "__main__":
    main()
