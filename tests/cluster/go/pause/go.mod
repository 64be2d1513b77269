module aim-engine-operator/cluster/pause

go 1.26.0
