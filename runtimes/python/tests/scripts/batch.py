class Model:
    def output_batch(self, requests, ctx):
        if any("fail" in request.params for request in requests):
            raise ValueError("no such batch")
        return [[request.params["x"], len(requests)] for request in requests]
