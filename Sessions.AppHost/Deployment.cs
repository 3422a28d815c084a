using System.Globalization;
using Microsoft.Extensions.Hosting;
using Sessions.ServiceDefaults;

namespace Sessions.AppHost;

/// <summary>
/// What is settled before the model is built, and what it holds only when it is published: as a manifest, from which azd deploys to
/// Azure Container Apps (docs/deployment.md leads through it).
/// </summary>
internal static class Deployment
{
    /// <summary>The <c>sessions:</c> section, found and read exactly as the API does it.</summary>
    public static SessionSettings ReadSettings(string[] args) =>
        Settings.Read<SessionSettings>(new HostApplicationBuilder(args).AddYamlConfiguration().Configuration, SessionSettings.Section);

    /// <summary>How many API processes are to run here; refuses more than the store can serve.</summary>
    public static int ReadReplicas(SessionSettings settings, string? replicas, bool published = false)
    {
        var shared = settings.StorageType is StorageType.Redis or StorageType.Postgres;
        if (int.TryParse(replicas ?? "1", NumberStyles.None, CultureInfo.InvariantCulture, out var count) && count >= 1
            && (count == 1 || (shared && !published)))
        {
            return count;
        }

        var reason = (shared, published) switch
        {
            (_, true) => "allowed when publishing: 1. On Container Apps, infra/api.tmpl.yaml says how many there may be.",
            (true, _) => "allowed: 1 or more.",
            _ => "allowed: 1. Several replicas of the API need a store that they share (storage_type: redis or postgres), and "
                + $"{Settings.NameOf(settings.StorageType)} belongs to one process.",
        };
        throw new SettingsException($"replicas: '{replicas}' is not allowed; {reason}");
    }

    /// <summary>Adds the secret that protects the clean-up route, and says which store it is.</summary>
    /// <exception cref="SettingsException">What was asked for can't be deployed.</exception>
    public static void AddDeployment(
        this IDistributedApplicationBuilder builder,
        SessionSettings settings,
        IResourceBuilder<ProjectResource> api,
        IResourceBuilder<ProjectResource> janitor)
    {
        RequireManifest(builder);
        RequireNoNetworkShare(settings);
        var key = builder.AddParameter("cleanup-key", new GenerateParameterDefault { MinLength = 32, Special = false }, secret: true);
        janitor.WithEnvironment("SESSIONS__CLEANUP_KEY", key);
        api.WithEnvironment("SESSIONS__CLEANUP_KEY", key)
            .WithEnvironment("SESSIONS__STORAGE_TYPE", Settings.NameOf(settings.StorageType));
    }

    // Aspire itself would write nothing, having no environment to publish to, and call that a success.
    private static void RequireManifest(IDistributedApplicationBuilder builder)
    {
        if (!string.Equals(builder.Configuration["Publishing:Publisher"], "manifest", StringComparison.OrdinalIgnoreCase))
        {
            throw new SettingsException(
                "There is nothing to publish but the manifest (--publisher manifest --output-path …), from which azd deploys. "
                + "For Docker Compose there is deploy/compose.yaml. docs/deployment.md leads through both.");
        }
    }

    // A SQLite file where Container Apps would have to keep it.
    private static void RequireNoNetworkShare(SessionSettings settings)
    {
        if (settings.StorageType == StorageType.Sqlite)
        {
            throw new SettingsException(
                "sessions.storage_type: sqlite can't be deployed to Azure Container Apps. The only disk that outlives a container there "
                + "is a network share (Azure Files), where SQLite's locks and its write-ahead log don't work: sessions would be lost or "
                + "the file damaged. "
                + "Deploy with Docker Compose to a machine with a local disk, or with storage_type: redis or postgres, or memory for "
                + "trying out.");
        }
    }
}
