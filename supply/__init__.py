"""The supply chain: what is installed, locked by hash; what is known against it; under which licences."""
