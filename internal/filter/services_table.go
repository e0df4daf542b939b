package filter

// services are the clouds' services by the names of their endpoints, as their
// providers document them. REGION stands for one. A name that begins with *.
// stands for all below it, which nobody can list: buckets, accounts,
// registries. Those of the regions of AWS in China end in .cn
// (docs.amazonaws.cn), and there is no api.aws.
//
//	AWS           docs.aws.amazon.com/general/latest/gr/rande.html and the page of each service there
//	S3            docs.aws.amazon.com/AmazonS3/latest/API/RESTAPI.html, userguide/dual-stack-endpoints.html
//	Google Cloud  docs.cloud.google.com: the REST reference of each service, "service endpoint"
//	Azure         learn.microsoft.com/azure/storage/common/storage-account-overview#storage-account-endpoints
//
// docs/services.md is made from it.
var services = map[string][]string{
	"aws.apigateway":     {"apigateway.REGION.amazonaws.com", "*.execute-api.REGION.amazonaws.com"},
	"aws.athena":         {"athena.REGION.amazonaws.com", "athena.REGION.api.aws"},
	"aws.autoscaling":    {"autoscaling.REGION.amazonaws.com", "autoscaling.REGION.api.aws"},
	"aws.cloudformation": {"cloudformation.REGION.amazonaws.com", "cloudformation.REGION.api.aws"},
	"aws.cloudfront":     {"cloudfront.amazonaws.com", "*.cloudfront.net"},
	"aws.cognito":        {"cognito-idp.REGION.amazonaws.com", "cognito-identity.REGION.amazonaws.com"},
	"aws.dynamodb":       {"dynamodb.REGION.amazonaws.com", "dynamodb.REGION.api.aws", "streams.dynamodb.REGION.amazonaws.com", "*.ddb.REGION.amazonaws.com"},
	"aws.ec2":            {"ec2.REGION.amazonaws.com", "ec2.REGION.api.aws", "ec2.amazonaws.com"},
	"aws.ecr":            {"api.ecr.REGION.amazonaws.com", "*.dkr.ecr.REGION.amazonaws.com"},
	"aws.ecs":            {"ecs.REGION.amazonaws.com"},
	"aws.eks":            {"eks.REGION.amazonaws.com", "eks.REGION.api.aws", "*.eks.amazonaws.com"},
	"aws.elb":            {"elasticloadbalancing.REGION.amazonaws.com"},
	"aws.events":         {"events.REGION.amazonaws.com"},
	"aws.firehose":       {"firehose.REGION.amazonaws.com", "firehose.REGION.api.aws"},
	"aws.glue":           {"glue.REGION.amazonaws.com", "glue.REGION.api.aws"},
	"aws.iam":            {"iam.amazonaws.com", "iam.global.api.aws"},
	"aws.kinesis":        {"kinesis.REGION.amazonaws.com", "kinesis.REGION.api.aws", "*.data-kinesis.REGION.amazonaws.com", "*.control-kinesis.REGION.amazonaws.com"},
	"aws.kms":            {"kms.REGION.amazonaws.com", "kms.REGION.api.aws"},
	"aws.lambda":         {"lambda.REGION.amazonaws.com", "lambda.REGION.api.aws", "*.lambda-url.REGION.on.aws"},
	"aws.logs":           {"logs.REGION.amazonaws.com", "logs.REGION.api.aws"},
	"aws.metadata":       {"169.254.169.254", "fd00:ec2::254"},
	"aws.monitoring":     {"monitoring.REGION.amazonaws.com", "monitoring.REGION.api.aws"},
	"aws.rds":            {"rds.REGION.amazonaws.com", "rds.REGION.api.aws", "*.REGION.rds.amazonaws.com"},
	"aws.route53":        {"route53.amazonaws.com"},
	"aws.s3": {
		"s3.REGION.amazonaws.com", "s3.dualstack.REGION.amazonaws.com", "s3-REGION.amazonaws.com", "s3.amazonaws.com",
		"*.s3.REGION.amazonaws.com", "*.s3.dualstack.REGION.amazonaws.com", "*.s3-REGION.amazonaws.com", "*.s3.amazonaws.com", "*.s3-accesspoint.REGION.amazonaws.com",
	},
	"aws.secretsmanager": {"secretsmanager.REGION.amazonaws.com", "secretsmanager.REGION.api.aws"},
	"aws.sns":            {"sns.REGION.amazonaws.com", "sns.REGION.api.aws"},
	"aws.sqs":            {"sqs.REGION.amazonaws.com", "sqs.REGION.api.aws", "REGION.queue.amazonaws.com"},
	"aws.ssm":            {"ssm.REGION.amazonaws.com", "ssm.REGION.api.aws", "ssmmessages.REGION.amazonaws.com", "ec2messages.REGION.amazonaws.com"},
	"aws.states":         {"states.REGION.amazonaws.com", "states.REGION.api.aws"},
	"aws.sts":            {"sts.REGION.amazonaws.com", "sts.REGION.api.aws", "sts.amazonaws.com"},
	"aws.xray":           {"xray.REGION.amazonaws.com", "xray.REGION.api.aws"},

	"gcp.artifacts":  {"artifactregistry.googleapis.com", "REGION-docker.pkg.dev"},
	"gcp.bigquery":   {"bigquery.googleapis.com", "bigquerystorage.googleapis.com"},
	"gcp.compute":    {"compute.googleapis.com"},
	"gcp.firestore":  {"firestore.googleapis.com", "datastore.googleapis.com"},
	"gcp.gke":        {"container.googleapis.com"},
	"gcp.iam":        {"iam.googleapis.com", "iamcredentials.googleapis.com", "sts.googleapis.com", "oauth2.googleapis.com"},
	"gcp.kms":        {"cloudkms.googleapis.com"},
	"gcp.logging":    {"logging.googleapis.com"},
	"gcp.metadata":   {"metadata.google.internal", "169.254.169.254"},
	"gcp.monitoring": {"monitoring.googleapis.com"},
	"gcp.pubsub":     {"pubsub.googleapis.com"},
	"gcp.secrets":    {"secretmanager.googleapis.com"},
	"gcp.spanner":    {"spanner.googleapis.com"},
	"gcp.sql":        {"sqladmin.googleapis.com"},
	"gcp.storage":    {"storage.googleapis.com", "*.storage.googleapis.com"},

	"azure.blob":       {"*.blob.core.windows.net"},
	"azure.keyvault":   {"*.vault.azure.net"},
	"azure.login":      {"login.microsoftonline.com"},
	"azure.management": {"management.azure.com"},
	"azure.metadata":   {"169.254.169.254"},
	"azure.queue":      {"*.queue.core.windows.net"},
	"azure.servicebus": {"*.servicebus.windows.net"},
	"azure.table":      {"*.table.core.windows.net"},
}
