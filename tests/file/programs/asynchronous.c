// Asynchronous input and output, in places of files that were written before: `asynchronous FILE`.
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void finish(struct aiocb* block) {
  const struct aiocb* list[] = {block};
  while (aio_error(block) == EINPROGRESS) aio_suspend(list, 1, NULL);
  printf("%zd ", aio_return(block));
}

int main(int count, char** arguments) {
  if (count < 2) return 2;
  const int fd = open(arguments[1], O_RDWR);
  char text[8] = "posix", read_back[8] = "";
  struct aiocb block = {.aio_fildes = fd, .aio_buf = text, .aio_nbytes = 5, .aio_offset = 1000};
  if (aio_write(&block) != 0) return 1;
  finish(&block);
  struct aiocb listed = {.aio_fildes = fd, .aio_buf = "listed", .aio_nbytes = 6, .aio_offset = 2000};
  listed.aio_lio_opcode = LIO_WRITE;
  struct aiocb* list[] = {NULL, &listed};
  printf("%d ", lio_listio(LIO_WAIT, list, 2, NULL));
  block.aio_buf = read_back;
  if (aio_read(&block) != 0) return 1;
  finish(&block);
  printf("%s\n", read_back);
  struct aiocb last = {.aio_fildes = fd, .aio_buf = "synced", .aio_nbytes = 6, .aio_offset = 2500};
  struct aiocb synced = {.aio_fildes = fd};
  if (aio_write(&last) != 0) return 1;
  printf("%d ", aio_fsync(O_SYNC, &synced));
  finish(&last);
  finish(&synced);
  printf("%d\n", aio_fsync(-1, &synced) != 0 && errno == EINVAL);

  aio_context_t context = 0;
  struct iocb request = {
      .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = (unsigned)fd, .aio_nbytes = 6, .aio_offset = 3000};
  request.aio_buf = (unsigned long)"kernel";
  struct iocb* requests[] = {&request};
  struct io_event event;
  printf("%ld ", syscall(SYS_io_setup, 8, &context));
  printf("%ld ", syscall(SYS_io_submit, context, 1, requests));
  printf("%ld ", syscall(SYS_io_getevents, context, 1, 1, &event, NULL));
  printf("%lld\n", (long long)event.res);
  return close(fd);
}
