"""An OTLP endpoint in a pod: prints a JSON line for each span that it is given."""

import json
import sys
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Sink(trace_service_pb2_grpc.TraceServiceServicer):
    def Export(self, request: Any, context: Any) -> trace_service_pb2.ExportTraceServiceResponse:
        for process in request.resource_spans:
            names = {each.key: each.value.string_value for each in process.resource.attributes}
            for scope in process.scope_spans:
                for span in scope.spans:
                    told = {"trace": span.trace_id.hex(), "service": names["service.name"], "span": span.name}
                    sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        return trace_service_pb2.ExportTraceServiceResponse()


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Sink(), server)
    server.add_insecure_port("0.0.0.0:4317")
    server.start()
    server.wait_for_termination()
