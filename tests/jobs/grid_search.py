"""scikit-learn's GridSearchCV over joblib's multiprocessing backend.

Usage: grid_search.py [PROCESSES]
"""
import sys

import joblib
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC


def main():
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    samples, classes = load_iris(return_X_y=True)
    grid = {"C": [0.1, 1, 10], "gamma": [0.01, 0.1], "kernel": ["rbf", "linear"]}
    with joblib.parallel_backend("multiprocessing", n_jobs=processes):
        search = GridSearchCV(SVC(), grid, cv=3).fit(samples, classes)
    print(search.best_params_, f"{search.best_score_:.6f}")
    for parameters, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"]):
        print(parameters, f"{score:.6f}")


if __name__ == "__main__":
    main()
