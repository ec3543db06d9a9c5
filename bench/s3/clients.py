"""The public clients that a download is compared with, each fetching one object into a file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def clients():
    """The clients that are installed here, by name."""
    found = {"boto3, threads": boto3_classic, "boto3, CRT": boto3_crt}
    aws = Path(sys.executable).with_name("aws")
    if aws.exists():
        found["aws s3 cp"] = lambda bucket, key, path: aws_cp(aws, bucket, key, path)
    if rclone := shutil.which("rclone"):
        found["rclone"] = lambda bucket, key, path: rclone_copy(rclone, bucket, key, path)
    return found


def s3_client():
    import boto3
    from botocore.config import Config

    return boto3.client("s3", config=Config(s3={"addressing_style": "path"}))


def boto3_classic(bucket, key, path):
    from boto3.s3.transfer import TransferConfig

    configuration = TransferConfig(preferred_transfer_client="classic", max_concurrency=10)
    s3_client().download_file(bucket, key, str(path), Config=configuration)


def boto3_crt(bucket, key, path):
    from boto3.s3.transfer import TransferConfig

    s3_client().download_file(bucket, key, str(path), Config=TransferConfig(preferred_transfer_client="crt"))


def aws_cp(aws, bucket, key, path):
    quietly([aws, "s3", "cp", "--quiet", f"s3://{bucket}/{key}", path])


def rclone_copy(rclone, bucket, key, path):
    remote = f":s3,provider=Other,env_auth,region={os.environ['AWS_REGION']},endpoint='{os.environ['AWS_ENDPOINT_URL']}'"
    options = ["--s3-no-check-bucket", "--multi-thread-streams", "8", "--multi-thread-cutoff", "8M", "--config", ""]
    quietly([rclone, "copyto", *options, f"{remote}:{bucket}/{key}", path])


def quietly(command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
