using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace Sessions.Api.Engine.Agents.Tools;

/// <summary>Whether the tool servers that were needed could be had.</summary>
internal sealed class ToolsHealthCheck(AgentCatalog agents) : IHealthCheck
{
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        List<string> away = [];
        foreach (var agent in agents.All)
        {
            foreach (var server in agent.ToolServers)
            {
                if (server.Failure is { } reason)
                {
                    away.Add($"{agent.Type}/{server.Name} can't be reached ({reason})");
                    server.Probe();
                }
            }
        }

        return Task.FromResult(away.Count == 0 ? HealthCheckResult.Healthy()
            : HealthCheckResult.Degraded($"Tool servers: {string.Join("; ", away)}."));
    }
}
