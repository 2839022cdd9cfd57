"""The manager on clusters: three RabbitMQ nodes, three Etcd members, PostgreSQL with a standby.

``script/test-clusters`` runs these tests; ``script/test`` does not.
"""
