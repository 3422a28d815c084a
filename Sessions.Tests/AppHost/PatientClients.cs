using Aspire.Hosting.Testing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Http.Resilience;

namespace Sessions.Tests.AppHost;

/// <summary>The HTTP clients that an application under test makes.</summary>
internal static class PatientClients
{
    /// <summary>
    /// They send a request again that has not been answered in ten seconds, also a <c>POST</c>: on a busy machine a turn would be there
    /// twice. Here they wait; where nobody listens yet they go on trying.
    /// </summary>
    public static IDistributedApplicationTestingBuilder WithPatientClients(this IDistributedApplicationTestingBuilder builder)
    {
        builder.Services.ConfigureAll<HttpStandardResilienceOptions>(options =>
        {
            options.AttemptTimeout.Timeout = TimeSpan.FromMinutes(2);
            options.TotalRequestTimeout.Timeout = TimeSpan.FromMinutes(5);
            options.CircuitBreaker.SamplingDuration = TimeSpan.FromMinutes(5);
        });
        return builder;
    }
}
