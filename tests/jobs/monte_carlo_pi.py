"""Monte Carlo estimate of pi with multiprocessing.Pool; each task has its own seed, so the result is deterministic.

Usage: monte_carlo_pi.py [SAMPLES_PER_TASK] [TASKS] [PROCESSES]
"""
import multiprocessing
import random
import sys


def hits(task):
    seed, samples = task
    draw = random.Random(seed).random
    return sum(draw() ** 2 + draw() ** 2 <= 1.0 for _ in range(samples))


def main():
    arguments = [int(value) for value in sys.argv[1:]]
    samples, tasks, processes = arguments + [100_000, 16, 4][len(arguments):]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        inside = sum(pool.map(hits, [(seed, samples) for seed in range(tasks)]))
    print(f"pi is about {4 * inside / (samples * tasks):.6f} ({inside} of {samples * tasks})")


if __name__ == "__main__":
    main()
