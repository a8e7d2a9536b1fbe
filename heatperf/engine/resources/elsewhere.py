"""Resource types that upstream has and the embedded engine has not: known names, answered as unavailable.

Comes in: nothing. Goes out: names by the service that a real engine would ask for them ("heat": upstream's engine
itself). So a template that needs a cloud is told apart from one with a mistyped name. Source: openstack-heat 27.0.1.
"""

_NAMES = {
    "aodh": (
        "OS::Aodh::Alarm OS::Aodh::CompositeAlarm OS::Aodh::EventAlarm "
        "OS::Aodh::GnocchiAggregationByMetricsAlarm OS::Aodh::GnocchiAggregationByResourcesAlarm "
        "OS::Aodh::GnocchiResourcesAlarm OS::Aodh::LBMemberHealthAlarm OS::Aodh::PrometheusAlarm"
    ),
    "barbican": (
        "OS::Barbican::CertificateContainer OS::Barbican::GenericContainer OS::Barbican::Order "
        "OS::Barbican::RSAContainer OS::Barbican::Secret"
    ),
    "blazar": ("OS::Blazar::Host OS::Blazar::Lease"),
    "cinder": (
        "AWS::EC2::Volume AWS::EC2::VolumeAttachment OS::Cinder::EncryptedVolumeType "
        "OS::Cinder::QoSAssociation OS::Cinder::QoSSpecs OS::Cinder::Quota OS::Cinder::Volume "
        "OS::Cinder::VolumeAttachment OS::Cinder::VolumeType"
    ),
    "designate": ("OS::Designate::RecordSet OS::Designate::Zone"),
    "glance": ("OS::Glance::WebImage"),
    "heat": (
        "AWS::AutoScaling::AutoScalingGroup AWS::AutoScaling::LaunchConfiguration "
        "AWS::AutoScaling::ScalingPolicy AWS::CloudFormation::Stack AWS::CloudFormation::WaitCondition "
        "AWS::CloudFormation::WaitConditionHandle AWS::EC2::InternetGateway AWS::EC2::SecurityGroup "
        "AWS::ElasticLoadBalancing::LoadBalancer AWS::IAM::AccessKey AWS::IAM::User OS::Heat::AccessPolicy "
        "OS::Heat::AutoScalingGroup OS::Heat::CloudConfig OS::Heat::Delay OS::Heat::DeployedServer "
        "OS::Heat::InstanceGroup OS::Heat::MultipartMime OS::Heat::ResourceChain OS::Heat::ResourceGroup "
        "OS::Heat::ScalingPolicy OS::Heat::SoftwareComponent OS::Heat::SoftwareDeployment "
        "OS::Heat::SoftwareDeploymentGroup OS::Heat::Stack OS::Heat::StructuredConfig "
        "OS::Heat::StructuredDeployment OS::Heat::StructuredDeploymentGroup "
        "OS::Heat::UpdateWaitConditionHandle OS::Heat::WaitCondition OS::Heat::WaitConditionHandle"
    ),
    "ironic": ("OS::Ironic::Port"),
    "keystone": (
        "OS::Keystone::Domain OS::Keystone::Endpoint OS::Keystone::Group OS::Keystone::GroupRoleAssignment "
        "OS::Keystone::Project OS::Keystone::Region OS::Keystone::Role OS::Keystone::Service "
        "OS::Keystone::User OS::Keystone::UserRoleAssignment"
    ),
    "magnum": ("OS::Magnum::Cluster OS::Magnum::ClusterTemplate"),
    "manila": ("OS::Manila::SecurityService OS::Manila::Share OS::Manila::ShareNetwork OS::Manila::ShareType"),
    "mistral": ("OS::Mistral::CronTrigger OS::Mistral::ExternalResource OS::Mistral::Workflow"),
    "neutron": (
        "AWS::EC2::NetworkInterface AWS::EC2::RouteTable AWS::EC2::Subnet "
        "AWS::EC2::SubnetRouteTableAssociation AWS::EC2::VPC AWS::EC2::VPCGatewayAttachment "
        "OS::Neutron::AddressScope OS::Neutron::ExtraRoute OS::Neutron::ExtraRouteSet OS::Neutron::Firewall "
        "OS::Neutron::FirewallPolicy OS::Neutron::FirewallRule OS::Neutron::FloatingIP "
        "OS::Neutron::FloatingIPAssociation OS::Neutron::FlowClassifier OS::Neutron::IKEPolicy "
        "OS::Neutron::IPsecPolicy OS::Neutron::IPsecSiteConnection OS::Neutron::L2Gateway "
        "OS::Neutron::L2GatewayConnection OS::Neutron::MeteringLabel OS::Neutron::MeteringRule "
        "OS::Neutron::Net OS::Neutron::NetworkGateway OS::Neutron::Port OS::Neutron::PortChain "
        "OS::Neutron::PortPair OS::Neutron::PortPairGroup OS::Neutron::ProviderNet "
        "OS::Neutron::QoSBandwidthLimitRule OS::Neutron::QoSDscpMarkingRule "
        "OS::Neutron::QoSMinimumBandwidthRule OS::Neutron::QoSMinimumPacketRateRule OS::Neutron::QoSPolicy "
        "OS::Neutron::Quota OS::Neutron::RBACPolicy OS::Neutron::Router OS::Neutron::RouterInterface "
        "OS::Neutron::SecurityGroup OS::Neutron::SecurityGroupRule OS::Neutron::Segment OS::Neutron::Subnet "
        "OS::Neutron::SubnetPool OS::Neutron::TaaS::TapFlow OS::Neutron::TaaS::TapService OS::Neutron::Trunk "
        "OS::Neutron::VPNService"
    ),
    "nova": (
        "AWS::EC2::EIP AWS::EC2::EIPAssociation AWS::EC2::Instance OS::Nova::Flavor OS::Nova::HostAggregate "
        "OS::Nova::KeyPair OS::Nova::Quota OS::Nova::Server OS::Nova::ServerGroup"
    ),
    "octavia": (
        "OS::Octavia::AvailabilityZone OS::Octavia::AvailabilityZoneProfile OS::Octavia::Flavor "
        "OS::Octavia::FlavorProfile OS::Octavia::HealthMonitor OS::Octavia::L7Policy OS::Octavia::L7Rule "
        "OS::Octavia::Listener OS::Octavia::LoadBalancer OS::Octavia::Pool OS::Octavia::PoolMember "
        "OS::Octavia::Quota"
    ),
    "openstack": ("OS::Neutron::FloatingIPPortForward"),
    "swift": ("AWS::S3::Bucket OS::Heat::SwiftSignal OS::Heat::SwiftSignalHandle OS::Swift::Container"),
    "trove": ("OS::Trove::Cluster OS::Trove::Instance"),
    "zaqar": ("OS::Zaqar::MistralTrigger OS::Zaqar::Queue OS::Zaqar::SignedQueueURL OS::Zaqar::Subscription"),
    "zun": ("OS::Zun::Container"),
}

#: Type name -> service it needs.
SERVICE_OF = {name: service for service, names in _NAMES.items() for name in names.split()}
