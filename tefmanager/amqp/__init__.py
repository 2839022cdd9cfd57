"""RabbitMQ: a consumer and a publisher, on txamqp with its faults cured."""
