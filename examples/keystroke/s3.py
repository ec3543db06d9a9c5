"""Puts files into a bucket, by HTTP and the standard library alone.

Where the bucket is and who asks comes from the variables that every S3 client knows: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_REGION. Requests are signed as AWS Signature Version 4 has it ("Authenticating Requests:
Using the Authorization Header" in the Amazon S3 API reference).
"""

import hashlib
import hmac
import http.client
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from urllib.parse import quote, urlsplit


class Bucket:
    """A bucket, addressed by path: `endpoint/name/key`."""

    def __init__(self, name):
        self.name = name
        self.endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
        self.key_id, self.secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        self.region = os.environ.get("AWS_REGION", "us-east-1")

    def put_folder(self, folder, prefix, connections=8):
        """Puts every file below `folder` at `prefix/its path`."""
        files = [path for path in folder.rglob("*") if path.is_file()]

        def put(share):
            connection = http.client.HTTPConnection(self.endpoint.hostname, self.endpoint.port or 80, timeout=60)
            for path in share:
                self.put(connection, f"{prefix}/{path.relative_to(folder)}", path.read_bytes())
            connection.close()

        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(put, (files[first::connections] for first in range(connections))))
        return len(files)

    def put(self, connection, key, body):
        target = "/" + quote(f"{self.name}/{key}", safe="/-_.~")
        connection.request("PUT", target, body, self.signed("PUT", target, body))
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"PUT s3://{self.name}/{key} answered {response.status}: {answer[:300]!r}")

    def signed(self, method, target, body):
        """The headers of a request, with its signature."""
        time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{time[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": self.endpoint.netloc, "x-amz-content-sha256": digest, "x-amz-date": time}
        names = ";".join(headers)
        lines = [method, target, "", *(f"{name}:{value}" for name, value in headers.items()), "", names, digest]
        request = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        signing_key = f"AWS4{self.secret}".encode()
        for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{request}"):
            signing_key = hmac.digest(signing_key, part.encode(), "sha256")
        credential = f"AWS4-HMAC-SHA256 Credential={self.key_id}/{scope}, SignedHeaders={names}, Signature={signing_key.hex()}"
        return {**headers, "authorization": credential}
