#!/usr/bin/env python3
"""WCGS (Western Collaborative Group Study, 3,154 men; Debian's r-cran-epitools, GPL-2+) as records for cadtrain, one split a seed.

    apt-get download r-cran-epitools && dpkg-deb -x r-cran-epitools_*.deb deb && pip install rdata
    python3 docs/examples/wcgs.py deb/usr/lib/R/site-library/epitools/data/wcgs.rda wcgs 1 2 3

Writes wcgs/SEED/{train,validation,test}.jsonl (60, 15, 25 %, stratified): `input`, `output`, the columns, and `score_logistic`, the risk by a ridge logistic
regression on the same columns, fitted here on the training rows (C = 1, standardised)."""
import json
import os
import sys

import numpy as np
import rdata

COLUMNS = ["age", "height", "weight", "sbp", "dbp", "chol", "ncigs", "arcus", "type_a"]


def read(path):
    t = next(iter(rdata.conversion.convert(rdata.parser.parse_file(path)).values()))
    number = lambda name: np.asarray(t[name], dtype=float)
    x = np.column_stack([number("age0"), number("height0"), number("weight0"), number("sbp0"), number("dbp0"), number("chol0"), number("ncigs0"), number("arcus0"),
                         np.where(number("dibpat0") == number("dibpat0").max(), 1.0, 0.0)])
    return x, number("chd69").astype(int)


def text(r):
    cell = lambda v, d=0: "not measured" if np.isnan(v) else f"{v:.{d}f}"
    return (f"Age {cell(r[0])}. Height {cell(r[1])} in, weight {cell(r[2])} lb. Blood pressure {cell(r[3])}/{cell(r[4])}. Cholesterol {cell(r[5])} mg/dL. "
            f"{'No cigarettes' if r[6] == 0 else cell(r[6]) + ' cigarettes a day'}. Type {'A' if r[8] else 'B'}.{' Arcus.' if r[7] == 1 else ''}")


def split(y, seed):
    rng, part = np.random.default_rng(seed), np.empty(len(y), dtype=int)
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(y == label))
        a, b = int(0.6 * len(rows)), int(0.75 * len(rows))
        part[rows[:a]], part[rows[a:b]], part[rows[b:]] = 0, 1, 2
    return part


def logistic(x, y, train):
    missing = np.isnan(x)
    mean, sd = np.nanmean(x[train], axis=0), np.nanstd(x[train], axis=0)
    z = np.where(missing, 0, (x - mean) / sd)
    z = np.column_stack([np.ones(len(z)), z, missing[:, missing[train].any(axis=0)]])
    ridge = np.eye(z.shape[1])
    ridge[0, 0] = 0
    beta = np.zeros(z.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-z[train] @ beta))
        w = p * (1 - p)
        beta -= np.linalg.solve(z[train].T @ (z[train] * w[:, None]) + ridge, z[train].T @ (p - y[train]) + ridge @ beta)
    return 1 / (1 + np.exp(-z @ beta))


def main():
    x, y = read(sys.argv[1])
    for seed in map(int, sys.argv[3:]):
        part, folder = split(y, seed), f"{sys.argv[2]}/{seed}"
        risk = logistic(x, y, part == 0)
        os.makedirs(folder, exist_ok=True)
        for k, name in enumerate(["train", "validation", "test"]):
            with open(f"{folder}/{name}.jsonl", "w") as f:
                for i in np.flatnonzero(part == k):
                    row = {"input": text(x[i]), "output": int(y[i])}
                    row.update({c: None if np.isnan(v) else float(v) for c, v in zip(COLUMNS, x[i])})
                    row["score_logistic"] = float(risk[i])
                    f.write(json.dumps(row) + "\n")


main()
