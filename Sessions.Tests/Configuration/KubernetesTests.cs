using System.Globalization;
using System.Net;
using k8s;
using k8s.Models;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Configuration;

/// <summary>
/// <c>deploy/kubernetes</c>, read by Kubernetes' own client, which refuses what its API does not know, and held to what there is. No
/// cluster is asked.
/// </summary>
public sealed class KubernetesTests
{
    private static readonly List<object> Objects =
        [.. KubernetesYaml.LoadAllFromString(File.ReadAllText(Repository.File("deploy", "kubernetes", "sessions.yaml")), strict: true)];

    private static V1Secret Secret =>
        KubernetesYaml.Deserialize<V1Secret>(File.ReadAllText(Repository.File("deploy", "kubernetes", "secret.sample.yaml")), strict: true);

    public static TheoryData<string> Deployments => [.. Objects.OfType<V1Deployment>().Select(deployment => deployment.Metadata.Name)];

    [Theory]
    [MemberData(nameof(Deployments))]
    public void A_container_is_without_rights_and_writes_to_no_disk_of_its_own(string name)
    {
        var pod = Pod(name);
        var container = Assert.Single(pod.Containers);

        Assert.True(pod.SecurityContext is { RunAsNonRoot: true, RunAsUser: 1654, SeccompProfile.Type: "RuntimeDefault" });
        var context = container.SecurityContext;
        Assert.True(context is { AllowPrivilegeEscalation: false, ReadOnlyRootFilesystem: true, Capabilities.Drop: ["ALL"] });
        Assert.False(pod.AutomountServiceAccountToken);
        Assert.NotNull(container.Resources.Limits["memory"]);
        Assert.Equal(["/tmp"], container.VolumeMounts.Select(mount => mount.MountPath));
        Assert.All(pod.Volumes, volume => Assert.Equal("Memory", volume.EmptyDir.Medium));
    }

    [Theory]
    [MemberData(nameof(Deployments))]
    public void It_is_probed_where_it_answers_and_given_the_time_to_finish(string name)
    {
        var pod = Pod(name);
        var container = pod.Containers[0];

        Assert.Equal("/alive", container.LivenessProbe.HttpGet.Path);
        Assert.Equal("/health", container.ReadinessProbe.HttpGet.Path);
        var port = Assert.Single(container.Ports);
        Assert.Equal(port.ContainerPort.ToString(CultureInfo.InvariantCulture), container.Env
            .Single(variable => variable.Name == "HTTP_PORTS").Value);
        Assert.All([container.LivenessProbe, container.ReadinessProbe], probe => Assert.Equal(port.Name, probe.HttpGet.Port.Value));
        if (container.Name == "api")
        {
            var waits = container.Lifecycle.PreStop.Sleep.Seconds + new LimitSettings().ShutdownSeconds + GracefulStop.Margin.TotalSeconds;
            Assert.InRange(pod.TerminationGracePeriodSeconds!.Value, waits + 5, double.MaxValue);
        }
    }

    [Fact]
    public void Settings_are_those_there_are_and_secrets_are_not_among_them()
    {
        var settings = Objects.OfType<V1ConfigMap>().Single().Data;
        var secrets = Secret.StringData;

        Assert.All(secrets, secret => Assert.Equal("", secret.Value));
        Assert.Equal("redis", settings["SESSIONS__STORAGE_TYPE"]);
        var known = typeof(SessionSettings).GetProperties().Select(property => property.Name).ToHashSet(StringComparer.OrdinalIgnoreCase);
        Assert.All(settings.Keys.Concat(secrets.Keys).Where(key => key.StartsWith("SESSIONS__", StringComparison.Ordinal)), key =>
            Assert.Contains(key["SESSIONS__".Length..].Replace("_", "", StringComparison.Ordinal), known));
        Assert.Contains("ConnectionStrings__redis", secrets.Keys);
    }

    [Fact]
    public void The_janitor_reaches_the_API_by_its_service_with_its_key()
    {
        var service = Objects.OfType<V1Service>().Single();
        var api = Objects.OfType<V1Deployment>().Single(deployment => deployment.Metadata.Name == "sessions-api");
        Assert.Equal(api.Spec.Selector.MatchLabels, service.Spec.Selector);
        Assert.All(service.Spec.Selector, label => Assert.Equal(label.Value, api.Spec.Template.Metadata.Labels[label.Key]));

        var janitor = Pod("sessions-janitor").Containers[0].Env.ToDictionary(variable => variable.Name);
        Assert.Equal($"http://{service.Metadata.Name}:{service.Spec.Ports[0].Port}", janitor["services__api__http__0"].Value);
        var names = (Map: Objects.OfType<V1ConfigMap>().Single().Metadata.Name, Secret: Secret.Metadata.Name);
        Assert.Equal((names.Secret, "SESSIONS__CLEANUP_KEY"),
            (janitor["SESSIONS__CLEANUP_KEY"].ValueFrom.SecretKeyRef.Name, janitor["SESSIONS__CLEANUP_KEY"].ValueFrom.SecretKeyRef.Key));
        Assert.Equal([names.Map, names.Secret], api.Spec.Template.Spec.Containers[0].EnvFrom
            .Select(from => from.ConfigMapRef?.Name ?? from.SecretRef.Name));
    }

    [Fact]
    public async Task An_API_that_answers_to_names_alone_answers_the_probes_and_the_janitor()
    {
        var asked = new Uri(Pod("sessions-janitor").Containers[0].Env.Single(variable => variable.Name == "services__api__http__0").Value);
        await using var api = ServiceProcess.Api(("AllowedHosts", $"sessions.example.com;localhost;{asked.Host}"));
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };

        // What Kubernetes sends by itself: the pod's address.
        const string Pods = "10.1.2.3:8080";
        var probed = Objects.OfType<V1Deployment>().SelectMany(deployment => deployment.Spec.Template.Spec.Containers)
            .SelectMany(container => new[] { container.StartupProbe, container.LivenessProbe, container.ReadinessProbe })
            .OfType<V1Probe>().Select(probe => probe.HttpGet).ToList();

        Assert.Equal(5, probed.Count);
        foreach (var get in probed)
        {
            var host = get.HttpHeaders?.SingleOrDefault(header => header.Name == "Host")?.Value ?? Pods;
            Assert.Equal(HttpStatusCode.OK, await StatusAsync(HttpMethod.Get, get.Path, host));
        }

        Assert.Equal(HttpStatusCode.OK, await StatusAsync(HttpMethod.Post, "/sessions/cleanup", asked.Authority));
        Assert.Equal(HttpStatusCode.BadRequest, await StatusAsync(HttpMethod.Get, "/alive", Pods));

        async Task<HttpStatusCode> StatusAsync(HttpMethod method, string path, string host)
        {
            using var request = new HttpRequestMessage(method, new Uri(path, UriKind.Relative)) { Headers = { Host = host } };
            using var answer = await client.SendAsync(request, TestContext.Current.CancellationToken);
            return answer.StatusCode;
        }
    }

    private static V1PodSpec Pod(string name) => Objects.OfType<V1Deployment>()
        .Single(deployment => deployment.Metadata.Name == name).Spec.Template.Spec;
}
