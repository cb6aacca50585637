//! What must hold between settings before anything starts.

use secrecy::{ExposeSecret, SecretString};

use crate::{
    broker_urls::{has_comma_in_virtual_host, share_a_virtual_host},
    check::{Check, allow},
    error::SettingsFinding,
    tables::{ConfigScope, Settings},
    transport::PostgresTransport,
    urls::{self, HttpUrl},
};

/// The most records in one batch call, by HubSpot's documentation of its CRM batch endpoints.
const HUBSPOT_BATCH: usize = 100;

/// The most events of one webhook, by HubSpot's documentation.
const MAX_EVENTS: usize = 100;

/// The largest element of a webhook, which is a message of its own: RabbitMQ 4.0 takes none above 16 MiB (its release notes), and closes
/// the channel of who sends one.
const MAX_MESSAGE: usize = 15 * 1_024 * 1_024;

/// The largest `ledger.batch_max`.
pub const MAX_LEDGER_BATCH: u32 = 10_000;

/// Everything that is wrong with the settings that `scope` needs.
pub(super) fn findings(settings: &Settings, scope: ConfigScope) -> Vec<SettingsFinding> {
    use ConfigScope::{AdminOnly, Everything, Inference, LedgerOnly, OpenAiOnly, Receiver, Writer};
    let mut check = Check::default();
    if !matches!(scope, LedgerOnly | OpenAiOnly) {
        admin(settings, &mut check);
    }
    if !matches!(scope, LedgerOnly | OpenAiOnly | AdminOnly) {
        broker(settings, &mut check);
        if let Some(endpoint) = &settings.telemetry.otlp_endpoint {
            check.http(endpoint, HttpUrl::Base, "telemetry.otlp_endpoint");
            let permission = ("telemetry.allow_plaintext", settings.telemetry.allow_plaintext);
            check.encrypted(endpoint, "http", "telemetry.otlp_endpoint", permission);
        }
    }
    if !matches!(scope, Receiver | OpenAiOnly | AdminOnly) {
        ledger(settings, &mut check);
    }
    if matches!(scope, Receiver | Inference | Writer | Everything) {
        check.within(settings.secrets.reload_seconds, 0..=3_600, "secrets.reload_seconds");
    }
    if matches!(scope, Receiver | Everything) {
        receiver(settings, &mut check);
    }
    if matches!(scope, Inference | Writer | Everything) {
        hubspot(settings, &mut check);
    }
    if matches!(scope, Inference | OpenAiOnly | Everything) {
        openai(settings, &mut check);
    }
    if matches!(scope, Inference | Everything) {
        inference(settings, &mut check);
    }
    if matches!(scope, Inference | Writer | Everything) {
        maintenance(settings, &mut check);
        drift(settings, &mut check);
        limits(settings, &mut check);
        // Without it the fleet's own writes could not be distinguished from other changes.
        check.set(settings.hubspot.app_id.as_ref(), "hubspot.app_id");
    }
    if matches!(scope, Writer | Everything) {
        let writer = &settings.writer;
        check.that(
            (1..=HUBSPOT_BATCH).contains(&writer.batch_max),
            "writer.batch_max",
            "must be 1–100, HubSpot's limit",
        );
        check.within(writer.concurrency as u64, 1..=65_535, "writer.concurrency");
        check.within(writer.parallel_batches as u64, 1..=1_000, "writer.parallel_batches");
        check.within(writer.batch_linger_ms, 0..=10_000, "writer.batch_linger_ms");
        check.within(writer.pipeline_cache_ttl_seconds, 1..=86_400, "writer.pipeline_cache_ttl_seconds");
        check.within(writer.refused_properties_seconds, 1..=86_400, "writer.refused_properties_seconds");
        check.within(writer.notify_timeout_seconds, 1..=300, "writer.notify_timeout_seconds");
        review(settings, &mut check);
        for (channel, url) in &settings.notify {
            let (url, key) = (url.expose_secret(), format!("notify.{channel}"));
            check.http(url, HttpUrl::Whole, &key);
            check.encrypted(url, "http", &key, ("writer.allow_plaintext", writer.allow_plaintext));
        }
        // The calls under the lease: the read of current values, the write, and an action, which waits for others at the limit.
        let hubspot = settings.hubspot.timeout_seconds;
        let calls = 2 * hubspot + hubspot.max(writer.notify_timeout_seconds);
        let needed = calls + settings.rate_limit.batch_linger_at_limit_ms.div_ceil(1_000);
        lease(writer.lease_seconds, needed, "writer.lease_seconds", &mut check);
    }
    check.findings()
}

fn admin(settings: &Settings, check: &mut Check) {
    let admin = &settings.admin;
    check.address(&admin.listen, "admin.listen");
    check.within(admin.check_timeout_ms, 1..=60_000, "admin.check_timeout_ms");
    check.within(admin.ready_cache_ms, 0..=60_000, "admin.ready_cache_ms");
    check.within(admin.read_timeout_ms, 10..=60_000, "admin.read_timeout_ms");
    check.within(admin.max_connections as u64, 1..=1_024, "admin.max_connections");
    let most = admin.max_connections as u64;
    check.within(admin.max_connections_per_peer as u64, 1..=most, "admin.max_connections_per_peer");
    check.within(admin.keep_alive_seconds, 1..=3_600, "admin.keep_alive_seconds");
    check.within(admin.connection_max_seconds, 5..=86_400, "admin.connection_max_seconds");
    check.within(settings.telemetry.refusals_per_minute.into(), 1..=60_000, "telemetry.refusals_per_minute");
    check.within(settings.telemetry.log_prompts_max_bytes as u64, 1..=1_048_576, "telemetry.log_prompts_max_bytes");
}

fn broker(settings: &Settings, check: &mut Check) {
    let broker = &settings.broker;
    let nodes = broker.urls();
    for url in nodes.iter().map(ExposeSecret::expose_secret) {
        check.all("broker.url", urls::amqp(url));
        check.encrypted(url, "amqp", "broker.url", ("broker.allow_plaintext", broker.allow_plaintext));
    }
    check.that(share_a_virtual_host(&nodes), "broker.url", "its URLs lead to different virtual hosts");
    let is_one = !nodes.iter().any(has_comma_in_virtual_host);
    let message = "after a comma another URL begins with amqp:// or amqps://; a comma in a virtual host's name is %2c";
    check.that(is_one, "broker.url", message);
    if let Some(url) = &broker.management_url {
        let (url, permission) = (url.expose_secret(), ("broker.allow_plaintext", broker.allow_plaintext));
        check.http(url, HttpUrl::Base, "broker.management_url");
        check.encrypted(url, "http", "broker.management_url", permission);
    }
    check.certificates(broker.tls_ca.as_ref(), "broker.tls_ca");
    check.pair(broker.tls_certificate.as_ref(), broker.tls_key.as_ref(), "broker");
    check.within(broker.connect_timeout_seconds, 1..=300, "broker.connect_timeout_seconds");
    check.within(broker.reconnect_max_seconds, 1..=300, "broker.reconnect_max_seconds");
    check.within(broker.confirm_timeout_ms, 10..=60_000, "broker.confirm_timeout_ms");
    check.within(broker.heartbeat_seconds, 1..=600, "broker.heartbeat_seconds");
    // The smallest frame that RabbitMQ 4.1 accepts (its release notes), and the default maximum of all versions.
    check.within(broker.frame_max_bytes.into(), 8_192..=131_072, "broker.frame_max_bytes");
    check.within(broker.delivery_limit.into(), 2..=1_000_000, "broker.delivery_limit");
    check.within(broker.max_queue_length.into(), 1..=u32::MAX.into(), "broker.max_queue_length");
    check.within(broker.max_attempts.into(), 1..=1_000, "broker.max_attempts");
    check.within(broker.max_age_seconds, 1..=31_536_000, "broker.max_age_seconds");
    check.within(broker.shutdown_grace_seconds, 0..=3_600, "broker.shutdown_grace_seconds");
    let delays = &broker.retry_delays_seconds;
    let ascending = delays.is_sorted_by(|a, b| a < b) && delays.first().is_some_and(|first| *first > 0);
    check.that(ascending, "broker.retry_delays_seconds", "needs at least one delay; delays must ascend, in seconds");
}

fn ledger(settings: &Settings, check: &mut Check) {
    let ledger = &settings.ledger;
    postgres_url(&ledger.url, ledger.allow_plaintext, "ledger.url", check);
    if let Some(url) = &ledger.migrate_url {
        postgres_url(url, ledger.allow_plaintext, "ledger.migrate_url", check);
    }
    check.within(ledger.max_connections.into(), 1..=1_000, "ledger.max_connections");
    check.within(ledger.acquire_timeout_ms, 10..=60_000, "ledger.acquire_timeout_ms");
    check.within(ledger.statement_timeout_ms, 10..=60_000, "ledger.statement_timeout_ms");
    check.within(ledger.batch_linger_ms, 0..=1_000, "ledger.batch_linger_ms");
    check.within(ledger.batch_max as u64, 1..=u64::from(MAX_LEDGER_BATCH), "ledger.batch_max");
    // HubSpot repeats a delivery for up to 24 hours: the event's key must be known for as long.
    let kept = settings.retention.events_days;
    check.that(kept == 0 || kept >= 2, "retention.events_days", format!("{kept} is less than 2 days (0: for ever)"));
}

fn postgres_url(url: &SecretString, allow_plaintext: bool, key: &str, check: &mut Check) {
    check.all(key, urls::postgres(url.expose_secret()));
    let is_safe = PostgresTransport::of(url).is_none_or(|transport| transport.is_safe());
    let message = format!(
        "leads to another machine whose certificate is not verified: it needs sslmode=verify-full (the default) or \
         verify-ca; {}",
        allow("ledger.allow_plaintext")
    );
    check.that(is_safe || allow_plaintext, key, message);
}

fn limits(settings: &Settings, check: &mut Check) {
    let (rate_limit, spend) = (&settings.rate_limit, &settings.spend);
    for (share, key) in [
        (rate_limit.hubspot_share, "rate_limit.hubspot_share"),
        (rate_limit.hubspot_day_share, "rate_limit.hubspot_day_share"),
        (rate_limit.openai_share, "rate_limit.openai_share"),
        (rate_limit.backfill_share, "rate_limit.backfill_share"),
    ] {
        check.that(share > 0.0 && share <= 1.0, key, "must be above 0 and at most 1");
    }
    for (quota, key) in [
        (rate_limit.hubspot_calls_per_10s, "rate_limit.hubspot_calls_per_10s"),
        (rate_limit.hubspot_calls_per_day, "rate_limit.hubspot_calls_per_day"),
        (rate_limit.hubspot_association_calls_per_10s, "rate_limit.hubspot_association_calls_per_10s"),
        (rate_limit.hubspot_association_calls_per_day, "rate_limit.hubspot_association_calls_per_day"),
        (rate_limit.openai_requests_per_minute, "rate_limit.openai_requests_per_minute"),
        (rate_limit.openai_tokens_per_minute, "rate_limit.openai_tokens_per_minute"),
    ] {
        check.that((1..=1_000_000_000_000).contains(&quota), key, format!("{quota} is not within 1–1000000000000"));
    }
    let most = 1_000_000_000_000_000;
    for (limit, key) in [
        (spend.micro_dollars_per_day, "spend.micro_dollars_per_day"),
        (spend.micro_dollars_per_record_and_day, "spend.micro_dollars_per_record_and_day"),
    ] {
        check.that((0..=most).contains(&limit), key, format!("must be within 0–{most}"));
    }
    check.within(rate_limit.batch_linger_at_limit_ms, 0..=10_000, "rate_limit.batch_linger_at_limit_ms");
    check.within(rate_limit.max_wait_seconds, 1..=600, "rate_limit.max_wait_seconds");
    check.within(rate_limit.max_hold_seconds, 1..=3_600, "rate_limit.max_hold_seconds");
}

fn receiver(settings: &Settings, check: &mut Check) {
    let receiver = &settings.receiver;
    check.secret(settings.hubspot.client_secret.as_ref(), "hubspot.client_secret");
    // There is another one only while it is rotated.
    check.not_blank(settings.hubspot.client_secret_previous.as_ref(), "hubspot.client_secret_previous");
    check.address(&receiver.listen, "receiver.listen");
    check.pair(receiver.tls_certificate.as_ref(), receiver.tls_key.as_ref(), "receiver");
    check.set(receiver.public_url.as_ref(), "receiver.public_url");
    if let Some(url) = &receiver.public_url {
        check.http(url, HttpUrl::Whole, "receiver.public_url");
    }
    check.within(receiver.max_body_bytes as u64, 1_024..=67_108_864, "receiver.max_body_bytes");
    // Names and ids have at most 256 bytes; a longer value is not cut below that.
    check.within(receiver.max_value_bytes as u64, 512..=65_536, "receiver.max_value_bytes");
    let batch = MAX_EVENTS * (receiver.max_value_bytes + 1_024);
    let message = format!("must hold a full batch of events with cut values (receiver.max_value_bytes): {batch}");
    check.that(receiver.max_kept_bytes >= batch, "receiver.max_kept_bytes", message);
    let message = format!("must be at most {MAX_MESSAGE}: RabbitMQ takes no larger message");
    check.that(receiver.max_kept_bytes <= MAX_MESSAGE, "receiver.max_kept_bytes", message);
    check.that(
        receiver.max_bytes_in_flight >= receiver.max_kept_bytes && receiver.max_bytes_in_flight <= 4_294_967_295,
        "receiver.max_bytes_in_flight",
        "must hold at least one webhook (receiver.max_kept_bytes), and be less than 4 GiB",
    );
    check.that(
        (receiver.max_kept_bytes..=receiver.max_bytes_in_flight).contains(&receiver.max_bytes_per_peer),
        "receiver.max_bytes_per_peer",
        "must hold at least one webhook (receiver.max_kept_bytes), and be at most receiver.max_bytes_in_flight",
    );
    check.within(receiver.max_in_flight as u64, 1..=65_535, "receiver.max_in_flight");
    check.within(receiver.max_connections as u64, 1..=65_535, "receiver.max_connections");
    let most = receiver.max_connections as u64;
    check.within(receiver.max_connections_per_peer as u64, 1..=most, "receiver.max_connections_per_peer");
    check.within(receiver.keep_alive_seconds, 1..=3_600, "receiver.keep_alive_seconds");
    check.within(receiver.connection_max_seconds, 5..=86_400, "receiver.connection_max_seconds");
    check.within(receiver.linger_seconds, 0..=300, "receiver.linger_seconds");
    check.within(receiver.retry_after_seconds, 1..=86_400, "receiver.retry_after_seconds");
    check.within(receiver.overflow_check_seconds, 1..=3_600, "receiver.overflow_check_seconds");
    // HubSpot closes the request after 5 s; after a late 200 it sends the same events again.
    let answer_ms = receiver.read_timeout_ms + settings.broker.confirm_timeout_ms;
    let message = format!("with broker.confirm_timeout_ms an answer may take {answer_ms} ms; HubSpot waits 5,000");
    check.that(answer_ms < 5_000, "receiver.read_timeout_ms", message);
}

fn hubspot(settings: &Settings, check: &mut Check) {
    let hubspot = &settings.hubspot;
    check.secret(hubspot.token.as_ref(), "hubspot.token");
    check.header(hubspot.token.as_ref().map(ExposeSecret::expose_secret), "hubspot.token");
    check.http(&hubspot.base_url, HttpUrl::Base, "hubspot.base_url");
    check.certificates(hubspot.tls_ca.as_ref(), "hubspot.tls_ca");
    let permission = ("hubspot.allow_plaintext", hubspot.allow_plaintext);
    check.encrypted(&hubspot.base_url, "http", "hubspot.base_url", permission);
    check.that(
        ["v3", "2026-09"].contains(&hubspot.api_version.as_str()),
        "hubspot.api_version",
        "must be v3 or 2026-09",
    );
    check.that(
        ["v4", "2026-09"].contains(&hubspot.associations_version.as_str()),
        "hubspot.associations_version",
        "must be v4 or 2026-09",
    );
    check.set(hubspot.portal_id.as_ref(), "hubspot.portal_id");
    check.within(hubspot.timeout_seconds, 1..=300, "hubspot.timeout_seconds");
    check.within(hubspot.attempts as u64, 1..=20, "hubspot.attempts");
    check.within(hubspot.backoff_ms, 1..=60_000, "hubspot.backoff_ms");
    check.within(hubspot.backoff_max_ms, hubspot.backoff_ms..=60_000, "hubspot.backoff_max_ms");
    check.within(hubspot.batch_linger_ms, 0..=10_000, "hubspot.batch_linger_ms");
    check.within(hubspot.parallel_reads as u64, 1..=100, "hubspot.parallel_reads");
}

fn maintenance(settings: &Settings, check: &mut Check) {
    let (circuit_breaker, reconcile, retention) = (&settings.circuit_breaker, &settings.reconcile, &settings.retention);
    check.within(circuit_breaker.failure_threshold.into(), 1..=1_000_000, "circuit_breaker.failure_threshold");
    check.within(circuit_breaker.poll_ms, 50..=60_000, "circuit_breaker.poll_ms");
    check.within(circuit_breaker.probe_first_seconds, 1..=3_600, "circuit_breaker.probe_first_seconds");
    check.within(
        circuit_breaker.probe_max_seconds,
        circuit_breaker.probe_first_seconds..=3_600,
        "circuit_breaker.probe_max_seconds",
    );
    check.within(circuit_breaker.half_open_seconds, 1..=3_600, "circuit_breaker.half_open_seconds");
    check.within(circuit_breaker.refusal_threshold.into(), 1..=1_000, "circuit_breaker.refusal_threshold");
    check.within(
        circuit_breaker.model_probe_max_seconds,
        circuit_breaker.probe_first_seconds..=86_400,
        "circuit_breaker.model_probe_max_seconds",
    );
    check.within(reconcile.interval_seconds, 1..=86_400, "reconcile.interval_seconds");
    check.within(reconcile.stuck_after_seconds, 1..=86_400, "reconcile.stuck_after_seconds");
    check.within(reconcile.batch.into(), 1..=100_000, "reconcile.batch");
    check.within(reconcile.max_requeues.into(), 1..=1_000, "reconcile.max_requeues");
    check.within(retention.interval_seconds, 1..=86_400, "retention.interval_seconds");
    check.within(retention.batch.into(), 1..=100_000, "retention.batch");
    check.within(retention.pause_ms, 0..=60_000, "retention.pause_ms");
}

/// The longest lease, in seconds. RabbitMQ closes a channel whose delivery is unacknowledged for 30 minutes (its setting
/// `consumer_timeout`); a lease, and the retries while the ledger is unreachable, must end well before.
const MAX_LEASE: u64 = 1_500;

/// One attempt of every call under a lease must fit into it, `needed` seconds. Further attempts end when the lease does.
/// The shortest secret that signs links, in bytes: as long as what it makes is hard to guess.
const MIN_LINK_SECRET: usize = 32;

fn review(settings: &Settings, check: &mut Check) {
    let review = &settings.review;
    check.within(review.expire_hours, 1..=8_760, "review.expire_hours");
    check.within(review.link_hours, 1..=8_760, "review.link_hours");
    if let Some(channel) = &review.channel {
        let is_known = settings.notify.contains_key(channel);
        check.that(is_known, "review.channel", format!("there is no notify.{channel}"));
    }
    let Some(listen) = &review.listen else { return };
    check.address(listen, "review.listen");
    check.set(review.public_url.as_ref(), "review.public_url");
    check.secret(review.link_secret.as_ref(), "review.link_secret");
    let length = review.link_secret.as_ref().map_or(MIN_LINK_SECRET, |secret| secret.expose_secret().len());
    check.that(length >= MIN_LINK_SECRET, "review.link_secret", format!("is shorter than {MIN_LINK_SECRET} bytes"));
}

fn drift(settings: &Settings, check: &mut Check) {
    let drift = &settings.drift;
    check.within(drift.interval_seconds, 1..=86_400, "drift.interval_seconds");
    check.within(drift.window_hours, 1..=8_760, "drift.window_hours");
    check.within(drift.min_sample.into(), 1..=1_000_000, "drift.min_sample");
    for (percent, key) in [
        (drift.max_overridden_percent, "drift.max_overridden_percent"),
        (drift.max_refused_percent, "drift.max_refused_percent"),
        (drift.max_unverified_percent, "drift.max_unverified_percent"),
        (drift.max_parked_percent, "drift.max_parked_percent"),
    ] {
        check.that((0.0..=100.0).contains(&percent), key, format!("{percent} is not within 0–100"));
    }
}

fn lease(seconds: u64, needed: u64, key: &str, check: &mut Check) {
    let message = format!(
        "{seconds} s is not longer than one attempt of every call under the lease, with its wait in a batch: {needed} s"
    );
    check.that(seconds > needed, key, message);
    let message = format!("{seconds} s is longer than {MAX_LEASE} s, which RabbitMQ's consumer_timeout allows");
    check.that(seconds <= MAX_LEASE, key, message);
}

fn openai(settings: &Settings, check: &mut Check) {
    let openai = &settings.openai;
    check.secret(openai.api_key.as_ref(), "openai.api_key");
    check.header(openai.api_key.as_ref().map(ExposeSecret::expose_secret), "openai.api_key");
    check.header(openai.organization.as_deref(), "openai.organization");
    check.header(openai.project.as_deref(), "openai.project");
    check.header(Some(&openai.auth_header), "openai.auth_header");
    check.http(&openai.base_url, HttpUrl::Base, "openai.base_url");
    check.certificates(openai.tls_ca.as_ref(), "openai.tls_ca");
    let permission = ("openai.allow_plaintext", openai.allow_plaintext);
    check.encrypted(&openai.base_url, "http", "openai.base_url", permission);
    for (path, key) in [(&openai.chat_path, "openai.chat_path"), (&openai.responses_path, "openai.responses_path")] {
        check.that(path.starts_with('/'), key, "must begin with /");
    }
    check.within(openai.surcharge_percent.into(), 0..=1_000, "openai.surcharge_percent");
    check.that(!openai.model.is_empty(), "openai.model", "is empty");
    check.within(openai.timeout_seconds, 1..=3_600, "openai.timeout_seconds");
    check.within(openai.attempts as u64, 1..=20, "openai.attempts");
    check.within(openai.backoff_ms, 1..=60_000, "openai.backoff_ms");
    check.within(openai.max_requests_per_connection as u64, 1..=10_000, "openai.max_requests_per_connection");
    let http2 = !openai.http2_prior_knowledge || openai.base_url.starts_with("http://");
    check.that(
        http2,
        "openai.http2_prior_knowledge",
        "is for a host without TLS; over TLS the host chooses the version",
    );
    check.within(openai.backoff_max_ms, openai.backoff_ms..=300_000, "openai.backoff_max_ms");
}

fn inference(settings: &Settings, check: &mut Check) {
    // Three reads (record, associations, engagements), each of which waits for others at the limit; two model calls (an invalid
    // answer may be repaired once).
    let calls = 3 * settings.hubspot.timeout_seconds + 2 * settings.openai.timeout_seconds;
    let linger = settings.hubspot.batch_linger_ms + settings.rate_limit.batch_linger_at_limit_ms;
    let lingering = 3 * linger + settings.inference.debounce_ms;
    let needed = calls + lingering.div_ceil(1_000);
    check.within(settings.inference.debounce_ms, 0..=60_000, "inference.debounce_ms");
    check.within(settings.inference.association_wait_seconds, 0..=3_600, "inference.association_wait_seconds");
    check.within(settings.inference.max_parts as u64, 1..=1_000, "inference.max_parts");
    lease(settings.inference.lease_seconds, needed, "inference.lease_seconds", check);
    // AMQP's prefetch count has 16 bits.
    check.within(settings.inference.concurrency as u64, 1..=65_535, "inference.concurrency");
    check.within(settings.inference.backfill_concurrency as u64, 0..=65_535, "inference.backfill_concurrency");
    check.within(settings.inference.text_threads as u64, 1..=256, "inference.text_threads");
}
