"""What fields are usually called, and which values usually mean what: for guesses. Pure."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


NAMES = {
    "prediction_id": "prediction_id pred_id inference_id scoring_id request_id req_id decision_id"
    " correlation_id request_uuid prediction_uuid trace_id impression_id event_id offer_id order_id"
    " transaction_id message_id uuid guid id",
    "experiment": "experiment experiment_name experiment_id experiment_key exp ab_test abtest test"
    " test_name campaign campaign_name campaign_id",
    "variant": "variant variant_name variant_id arm treatment treatment_group test_group ab_group"
    " model_variant bucket group model model_name model_id algorithm policy branch model_version",
    "predicted": "predicted decision decided prediction predicted_label predicted_class"
    " recommendation recommended action offer approve approved flagged flag alarm alert positive"
    " is_positive class result output verdict label",
    "acted": "acted executed shown sent delivered applied",
    "score": "score probability prob proba p confidence model_score prediction_score likelihood",
    "latency_ms": "latency duration elapsed took timing response_time processing_time inference_time"
    " model_latency request_duration runtime time",
    "time": "time timestamp ts event_time event_timestamp at created_at created occurred_at"
    " served_at scored_at requested_at resolved_at datetime date when",
    "error": "error failed failure is_error errored has_error exception status_code http_status"
    " response_code status",
    "weight": "weight ipw inverse_propensity sample_weight propensity_weight",
    "unit_id": "unit_id user_id customer_id account_id visitor_id member_id client_id device_id"
    " session_id customer user account visitor",
    "version": "version model_version",
    "segment": "segment",
    "cost": "cost",
    "actual": "actual label outcome converted conversion is_converted ground_truth truth target"
    " accepted purchased clicked paid success won churned is_fraud fraud chargeback defaulted"
    " returned response status result state",
    "value": "value revenue amount profit price",
}
"""Names of columns by field, the surest first."""

UNIT_WORDS = {
    "ms": "ms",
    "millis": "ms",
    "millisecond": "ms",
    "milliseconds": "ms",
    "msec": "ms",
    "s": "s",
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "us": "us",
    "usec": "us",
    "micros": "us",
    "microsecond": "us",
    "microseconds": "us",
}

YES = _set(
    "yes y true t 1 send sent offer offered accept accepted approve approved positive pos fraud buy"
    " bought purchase purchased convert converted won win sold paid click clicked success churn"
    " churned alert alarm flag flagged block show shown recommend recommended act treat"
)
NO = _set(
    "no n false f 0 none skip skipped hold withhold ignore ignored reject rejected refuse refused"
    " decline declined deny denied negative neg legit legitimate lost lose unpaid failure failed"
    " expired abandoned no_offer nothing hide hidden suppress allow pass quiet retained"
)
FINE = _set("ok okay success succeeded successful completed done none served")
FAILED = _set("error err failed failure timeout exception ko crash crashed unavailable")

CONTROL = ("control", "baseline", "champion", "current", "production", "prod", "stable", "rules")
"""What the variant is called that is there already, the surest first."""
PREDICTION_WORDS = _set("prediction predictions scoring scores scored inference requests")
OUTCOME_WORDS = _set(
    "outcome outcomes label labels conversion conversions feedback truth orders sales results"
)
