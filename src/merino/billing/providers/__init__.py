"""Who takes money for us: adapters of `billing.ports.PaymentProvider`."""
