"""Who takes money for us: adapters of `control.ports.PaymentProvider`."""
