using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace Sessions.Client.Http;

/// <summary>Whether the server says that it is ready.</summary>
/// <param name="createClient">Gives a client that tries once, and not for long.</param>
internal sealed class SessionsHealthCheck(Func<HttpClient> createClient) : IHealthCheck
{
    public async Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        try
        {
            using var response = await createClient().GetAsync(new Uri("health", UriKind.Relative), cancellationToken)
                .ConfigureAwait(false);
            return response.IsSuccessStatusCode ? HealthCheckResult.Healthy()
                : new HealthCheckResult(context.Registration.FailureStatus,
                    $"The Sessions server answers {(int)response.StatusCode}: it is not ready.");
        }
        catch (Exception e) when (SessionsTransport.IsUnreachable(e, cancellationToken))
        {
            return new HealthCheckResult(context.Registration.FailureStatus, "The Sessions server does not answer.", e);
        }
    }
}
