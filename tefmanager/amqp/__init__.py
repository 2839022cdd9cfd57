"""RabbitMQ: a consumer and a publisher, built on txamqp with its faults corrected."""
