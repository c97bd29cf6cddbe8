# Reads a request of OTLP's JSON from standard input with the classes that OpenTelemetry generates from its protocol: a name
# or a type that they do not know ends it. Argument: trace or metrics.
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

request = {"trace": ExportTraceServiceRequest, "metrics": ExportMetricsServiceRequest}[sys.argv[1]]()
json_format.Parse(sys.stdin.read(), request)
if sys.argv[1] == "trace":
    assert request.resource_spans[0].scope_spans[0].spans[0].start_time_unix_nano > 1_700_000_000 * 10**9
else:
    points = [metric.histogram.data_points for metric in request.resource_metrics[0].scope_metrics[0].metrics]
    for point in [point for points in points for point in points]:
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1 and sum(point.bucket_counts) == point.count
