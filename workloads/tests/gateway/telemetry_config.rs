//! What a file says of collectors.

use super::*;

#[test]
fn collectors_are_checked_and_printed_as_they_were_read() {
    let at_the_root =
        |telemetry: &str| with(&format!(", \"extra_config\": {{\"telemetry/opentelemetry\": {telemetry}}}"), "", "");
    let with_exporter = |exporter: &str| at_the_root(&format!("{{\"exporters\": {{\"otlp\": [{exporter}]}}}}"));
    for (text, says) in [
        (at_the_root("{}"), "exporters"),
        (with_exporter("{\"host\": \"otel\"}"), "OTLP over gRPC is not offered: set use_http"),
        (with_exporter("{\"use_http\": true}"), "host"),
        (with_exporter("{\"host\": \"http://u:p@otel\", \"use_http\": true}"), "credentials do not belong into a URL"),
        (with_exporter("{\"host\": \"otel\", \"use_http\": true, \"prot\": 1}"), "did you mean \"port\"?"),
        (at_the_root("{\"trace_sample_rate\": 2, \"exporters\": {}}"), "a number from 0 to 1"),
        (at_the_root("{\"metric_reporting_period\": 0, \"exporters\": {}}"), "a whole number from 1 to 3600"),
    ] {
        let problems = problems(json(&text));
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        assert!(problems[0].contains(says), "{text}: {problems:#?}");
    }
    for (text, note) in [
        (at_the_root("{\"exporters\": {\"prometheus\": [{\"name\": \"p\"}]}}"), "it names no collector"),
        (with("", ", \"extra_config\": {\"telemetry/opentelemetry\": {}}", ""), "has no effect here"),
    ] {
        let (gateway, notes) = json(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(gateway.telemetry.is_none());
        assert!(notes.iter().any(|it| it.says.contains(note)), "{notes:?}");
    }
    let text = "{\"service_name\": \"shop\", \"service_version\": \"2\", \"deploy_env\": \"test\", \"trace_sample_rate\": 0.25, \
                \"metric_reporting_period\": 10, \"skip_paths\": [\"/x\"], \"exporters\": {\"otlp\": [\
                {\"name\": \"a\", \"host\": \"otel\", \"port\": 4400, \"use_http\": true, \"disable_metrics\": true}, \
                {\"host\": \"https://otel.example/base/\", \"use_http\": true, \"custom_reporting_period\": 60}]}}";
    let (gateway, _) = json(&at_the_root(text)).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let printed = print_effective(&gateway);
    let (again, _) = json(&printed).unwrap_or_else(|problems| panic!("{printed}: {problems:#?}"));
    assert_eq!((print_effective(&again), &again.telemetry), (printed, &gateway.telemetry));
    let telemetry = gateway.telemetry.unwrap();
    let endpoints: Vec<String> =
        telemetry.exporters.iter().map(|it| it.endpoint.at("/v1/traces").to_string()).collect();
    assert_eq!(endpoints, ["http://otel:4400/v1/traces", "https://otel.example/base/v1/traces"]);
}
