"""Metadata of skcausalmeta; ``pyproject.toml`` holds tool settings only."""

import re
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent


def read_version() -> str:
    """Read the version from its file, since importing would need torch."""
    source = (HERE / "skcausalmeta" / "_version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError(
            "skcausalmeta/_version.py must hold a line of the form "
            '__version__ = "1.2.3". Got no such line; restore it.'
        )
    return match.group(1)


def read_long_description() -> str:
    """Return the README, or nothing where a source tree comes without one."""
    readme = HERE / "README.rst"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


INSTALL_REQUIRES = [
    "numpy>=1.26",
    "scipy>=1.11",
    "scikit-learn>=1.6",
    "torch>=2.4",
    "skorch>=1.2",
    "cvxpy>=1.5",
    "tqdm>=4.65",
]

EXTRAS_REQUIRE = {
    "plot": ["matplotlib>=3.7"],
    "data": ["pooch>=1.7", "pillow>=9.4", "h5py>=3.8"],
    "io": ["skops>=0.10"],
    "export": ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20", "torch>=2.6"],
    "tasks": ["pyarrow>=14.0", "pandas>=2.1"],
    "dist": ["dask[distributed]>=2024.1", "accelerate>=0.27"],
    "neighbours": [
        "mlflow-skinny>=3.0",
        "optuna>=4.0",
        "imbalanced-learn>=0.14",
        "shap>=0.47",
        "skops>=0.10",
        "cloudpickle>=3.0",
        "sqlalchemy>=2.0",
        "alembic>=1.13",
    ],
    "docs": [
        "sphinx>=7.2",
        "sphinx-gallery>=0.15",
        "numpydoc>=1.6",
        "pydata-sphinx-theme>=0.15",
        "matplotlib>=3.7",
        "pandas>=2.1",
        "pyarrow>=14.0",
        "dask[distributed]>=2024.1",
    ],
    "bench": [
        "cvxpylayers>=0.1.6",
        "qpth>=0.0.16",
        "lightgbm>=4.1",
        "matplotlib>=3.7",
        "pandas>=2.1",
        "pyarrow>=14.0",
    ],
    "test": [
        "pytest>=8.0",
        "pytest-xdist>=3.5",
        "hypothesis>=6.90",
        "ruff>=0.6",
        "mypy>=1.8",
        "matplotlib>=3.7",
        "pandas>=2.1",
        "pooch>=1.7",
        "pillow>=9.4",
        "numpydoc>=1.6",
        "skops>=0.10",
        "dask[distributed]>=2024.1",
        "accelerate>=0.27",
        "pyarrow>=14.0",
        "polars>=1.0",
        "cloudpickle>=3.0",
        "onnx>=1.17",
        "onnxscript>=0.5",
        "onnxruntime>=1.20",
        "safetensors>=0.5",
    ],
}

COMPILED = "skcausalmeta/solvers/_compiled"

# Sums may be reordered, as vector instructions need it; NaN and infinity keep their
# meaning, and no instruction is used that the machine of the user might lack.
GNU_ARGS = [
    "-O3",
    "-g0",
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-ffp-contract=fast",
]


class BuildExtension(build_ext):
    """Build with the arguments that the compiler at hand knows."""

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        for extension in self.extensions:
            extension.extra_compile_args = ["/O2"] if msvc else GNU_ARGS
        super().build_extensions()


# Optional: where it cannot be built, the package works without it, only slower.
EXTENSION = Extension(
    "skcausalmeta.solvers._compiled._kernel",
    sources=[
        f"{COMPILED}/_kernel.pyx",
        *(f"{COMPILED}/kernel_{isa}.c" for isa in ("base", "avx2", "avx512")),
    ],
    depends=sorted(path.as_posix() for path in Path(COMPILED).glob("*.h")),
    optional=True,
)

setup(
    name="skcausalmeta",
    version=read_version(),
    description="Sparse and causal meta-learning with scikit-learn estimators",
    long_description=read_long_description(),
    long_description_content_type="text/x-rst",
    author="skcausalmeta developers",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["skcausalmeta", "skcausalmeta.*"]),
    package_data={"skcausalmeta": ["py.typed"]},
    ext_modules=[EXTENSION],
    cmdclass={"build_ext": BuildExtension},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    zip_safe=False,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
