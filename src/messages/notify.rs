//! From rules to the notifier and on to Alertmanagers.

use std::sync::Arc;

use actix::Message;
use fk_notify::Alert;
use fk_rules::OutgoingAlert;

/// rule group -> notifier: tell, at most one per evaluation. Alerts to deliver.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Alerts(pub Vec<OutgoingAlert>);

/// notifier -> Alertmanager sender: tell. Alerts after all relabelling; the sender's queue drops the oldest when it is full.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SendAlerts(pub Vec<Arc<Alert>>);
