"""The model as MLflow keeps it, which is what `mlflow models serve` serves.

python mlflow_save.py MODEL FOLDER
"""

from __future__ import annotations

import sys

import joblib
import mlflow.sklearn

mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2], pip_requirements=["scikit-learn"])
