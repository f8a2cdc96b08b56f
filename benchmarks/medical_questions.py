"""A synthetic medical question set whose answers follow from rules: medical_questions.py DIR TRAIN TEST SEED writes train.jsonl and test.jsonl with Question,
Complex_CoT and Response. Held-out questions combine findings as no training question does."""
import itertools
import json
import os
import random
import sys

SITES = ['chest pain', 'leg pain', 'headache', 'belly pain']
CAUSES = ['on effort', 'at rest', 'after meals', 'at night']
RISKS = ['smokes', 'has diabetes', 'has no risk factor', 'has high blood pressure']
AGES = list(range(30, 80))
ORGAN = {'chest pain': 'heart', 'leg pain': 'leg artery', 'headache': 'brain', 'belly pain': 'gut'}
TEST = {'heart': 'ECG', 'leg artery': 'ankle index', 'brain': 'CT', 'gut': 'ultrasound'}


def answer(site, cause, risk, age):
    organ = ORGAN[site]
    points = (cause == 'on effort') + (risk != 'has no risk factor') + (age >= 50)
    speed = ['later', 'soon', 'today', 'now'][points]
    return f'{organ}, {points} points', f'{TEST[organ]} {speed}'


def record(case):
    site, cause, risk, age = case
    reason, response = answer(*case)
    return {'Question': f'Age {age}, {site} {cause}, {risk}?', 'Complex_CoT': reason, 'Response': response}


def main(directory, train, test, seed):
    cases = list(itertools.product(SITES, CAUSES, RISKS, AGES))
    random.Random(seed).shuffle(cases)
    os.makedirs(directory, exist_ok=True)
    for name, part in (('train', cases[:train]), ('test', cases[train:train + test])):
        with open(os.path.join(directory, name + '.jsonl'), 'w', encoding='utf-8') as f:
            for case in part:
                f.write(json.dumps(record(case)) + '\n')


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
