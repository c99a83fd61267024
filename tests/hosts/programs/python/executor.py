# forks: 6
"""concurrent.futures.ProcessPoolExecutor and joblib's multiprocessing backend."""
import concurrent.futures
import multiprocessing

import joblib


def power(x, y=2):
    return x ** y


def fail(x):
    raise ValueError(x)


def main():
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as pool:
        print(list(pool.map(power, range(10))), pool.submit(power, 2, 10).result(60))
        futures = [pool.submit(power, x) for x in range(20)]
        print(sorted(future.result() for future in concurrent.futures.as_completed(futures)))
        print(repr(pool.submit(fail, 7).exception(60)))
    with joblib.parallel_backend("multiprocessing", n_jobs=2):
        print(joblib.Parallel()(joblib.delayed(power)(x) for x in range(12)))


if __name__ == "__main__":
    main()
